/**
 * Keeps the keyboard's place when a row or a notice is about to vanish: a focused element that is removed would
 * throw it back to the top of the page. If the row stays after all, so does the focus in it.
 */
export function keepFocusNear(row: HTMLElement | null): void {
  if (!row?.contains(document.activeElement)) return;
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  requestAnimationFrame(() => {
    // The row stayed, or the user has chosen another place meanwhile.
    if (row.isConnected || document.activeElement !== document.body) return;
    const target = neighbour?.querySelector<HTMLElement>("[role=checkbox]");
    (target ?? document.querySelector<HTMLElement>("#new-todo"))?.focus();
  });
}
