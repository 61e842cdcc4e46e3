import { type RefObject, useEffect, useEffectEvent } from "react";

/** Where list and panel have room side by side; below, the panel lies over the list. Also in the CSS. */
const WIDE = "(min-width: 64rem)";

/**
 * Opens and closes a <dialog>: beside the list it leaves the rest of the page usable, over it the
 * browser keeps the focus inside and everything else inert.
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
      // A dialog changes its kind only by way of being closed.
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
