import { useEffect, useState } from "react";
import { linkOf } from "@/lib/store-link";
import { connectTodos } from "@/lib/todo-link";
import type { TodoStore } from "@/lib/todo-store";

/** How long what others changed is marked, in milliseconds. */
const MARKED = 6_000;

const NONE: ReadonlySet<string> = new Set();

/** Lets other parts of the page, such as the assistant, reach the list; answers what they touched. */
export function useTodoLink(store: TodoStore): ReadonlySet<string> {
  const [touched, setTouched] = useState(NONE);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const disconnect = connectTodos(
      linkOf(store, {
        onTouched(ids) {
          setTouched((before) => new Set([...before, ...ids]));
          clearTimeout(timer);
          timer = setTimeout(() => { setTouched(NONE); }, MARKED);
        },
        onReveal: reveal,
      }),
    );
    return () => {
      disconnect();
      clearTimeout(timer);
    };
  }, [store]);
  return touched;
}

/** Shows the row of `key`, whatever the filter, with the keyboard's place in it. */
function reveal(key: string): void {
  const row = () => document.getElementById(`title-${key}`)?.closest("li");
  if (!row()) window.history.pushState(null, "", "/");
  requestAnimationFrame(() => {
    row()?.scrollIntoView({ block: "center" });
    row()?.querySelector<HTMLElement>("[role=checkbox]")?.focus({ preventScroll: true });
  });
}
