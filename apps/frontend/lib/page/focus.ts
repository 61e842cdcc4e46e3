/**
 * Moves the focus when a row or a notice will disappear: removing a focused element would reset the focus to the top
 * of the page. If the row stays, it keeps the focus.
 */
export function keepFocusNear(row: HTMLElement | null): void {
  if (!row?.contains(document.activeElement)) return;
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  requestAnimationFrame(() => {
    // The row stayed, or the user has moved the focus.
    if (row.isConnected || document.activeElement !== document.body) return;
    const target = neighbour?.querySelector<HTMLElement>("[role=checkbox]");
    (target ?? document.querySelector<HTMLElement>("#new-todo"))?.focus();
  });
}
