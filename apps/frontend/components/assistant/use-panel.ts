import { type RefObject, useEffect, useEffectEvent } from "react";

/** Minimum width for list and panel side by side; otherwise the panel covers the list. Also in the CSS. */
const WIDE = "(min-width: 64rem)";

/**
 * Opens and closes a <dialog>. Beside the list the rest of the page stays usable; over the list the
 * browser keeps the focus inside and the rest inert.
 */
export function usePanel(
  dialog: RefObject<HTMLDialogElement | null>,
  open: boolean,
  calls: number,
  focus: () => void,
): void {
  const takeFocus = useEffectEvent(focus);

  useEffect(() => {
    const element = dialog.current;
    if (!element || !open) return;
    const wide = window.matchMedia(WIDE);
    const show = () => {
      // A dialog must close before it can change between modal and non-modal.
      const focused = document.activeElement;
      if (element.open) element.close();
      if (wide.matches) element.show();
      else element.showModal();
      if (focused instanceof HTMLElement && element.contains(focused)) focused.focus();
      else takeFocus();
    };
    show();
    wide.addEventListener("change", show);
    return () => {
      wide.removeEventListener("change", show);
      element.close();
    };
  }, [dialog, open]);

  useEffect(() => {
    const element = dialog.current;
    if (element?.open && !element.contains(document.activeElement)) takeFocus();
  }, [dialog, calls]);
}
