import { type RefObject, useEffect, useEffectEvent, useState } from "react";
import { go } from "@/lib/page/address";
import type { Operation } from "@/lib/todos/operations";
import { NEW_TODO } from "./new-todo";

/** How near the end of the list its next page is loaded, in CSS pixels. */
const NEAR_END = "800px";

/** Calls `onNear` when the end of the list comes near, and again for as long as it is near when `count` changes. */
export function useListEnd(end: RefObject<HTMLElement | null>, count: number, onNear: () => void) {
  const onEnd = useEffectEvent(onNear);
  useEffect(() => {
    if (!end.current) return;
    const observer = new IntersectionObserver(
      ([entry]) => { if (entry?.isIntersecting) onEnd(); },
      { rootMargin: NEAR_END },
    );
    observer.observe(end.current);
    return () => { observer.disconnect(); };
  }, [end, count]);
}

/** The value once it has not changed for `quiet` milliseconds; empty until it changes for the first time. */
export function useSettled(value: string, quiet: number): string {
  const [first] = useState(value);
  const [settled, setSettled] = useState("");
  useEffect(() => {
    if (value === first && settled === "") return;
    const timer = setTimeout(() => { setSettled(value); }, quiet);
    return () => { clearTimeout(timer); };
  }, [value, quiet, first, settled]);
  return settled;
}

/** Ctrl+Z or ⌘Z, unless there is typed text that it is meant for. `undo` false: there is nothing to undo here. */
export function useUndoKey(undo: () => boolean) {
  useKeys((event) => {
    const { target } = event;
    const typing = (target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement) && target.value !== "";
    const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && isZ(event);
    if (isUndo && !typing && undo()) event.preventDefault();
  });
}

export function useKeys(onKey: (event: KeyboardEvent) => void) {
  const pressed = useEffectEvent(onKey);
  useEffect(() => {
    const listener = (event: KeyboardEvent) => { pressed(event); };
    document.addEventListener("keydown", listener);
    return () => { document.removeEventListener("keydown", listener); };
  }, []);
}

/** By its letter, or by its place where the layout has other letters, as in Cyrillic or Greek. */
function isZ({ key, code }: KeyboardEvent): boolean {
  return key.toLowerCase() === "z" || (code === "KeyZ" && key > "\x7f");
}

export function showUndone(undone: Operation) {
  if (undone.kind === "remove") reveal(undone.key);
  else document.getElementById(NEW_TODO)?.focus();
}

/** Shows the row of `key`, whatever the filter, with the keyboard's place in it. */
export function reveal(key: string): void {
  const find = () => document.getElementById(`title-${key}`)?.closest("li");
  if (!find()) go("/");
  // The other filter's rows are not there at once.
  let frames = 30;
  const show = () => {
    const row = find();
    if (!row) {
      if ((frames -= 1) > 0) requestAnimationFrame(show);
      return;
    }
    row.scrollIntoView({ block: "center" });
    row.querySelector<HTMLElement>("[role=checkbox]")?.focus({ preventScroll: true });
  };
  requestAnimationFrame(show);
}
