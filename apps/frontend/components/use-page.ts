import { type RefObject, useEffect, useEffectEvent, useState } from "react";
import { go } from "@/lib/page/address";
import type { Operation } from "@/lib/todos/operations";
import { NEW_TODO } from "./new-todo";

/** Distance to the end of the list that loads the next page, in CSS pixels. */
const NEAR_END = "800px";

/** Calls `onNear` near the end of the list, and again each time `count` changes there. */
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

/** Returns the value once it is unchanged for `quiet` milliseconds; empty until its first change. */
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

/** Handles Ctrl+Z or ⌘Z outside of typed text. `undo` returns false if there is nothing to undo. */
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

/** Compares the letter, or the key's position on layouts with other letters (Cyrillic, Greek). */
function isZ({ key, code }: KeyboardEvent): boolean {
  return key.toLowerCase() === "z" || (code === "KeyZ" && key > "\x7f");
}

export function showUndone(undone: Operation) {
  if (undone.kind === "remove") reveal(undone.key);
  else document.getElementById(NEW_TODO)?.focus();
}

/** Shows and focuses the row of `key`, whatever the filter. */
export function reveal(key: string): void {
  const find = () => document.getElementById(`title-${key}`)?.closest("li");
  if (!find()) go("/");
  // The rows of the other filter appear later.
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
