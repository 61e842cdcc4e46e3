import { useEffect, useState } from "react";
import { go } from "@/lib/page/address";
import { linkOf } from "@/lib/todos/store-link";
import { connectTodos } from "@/lib/todos/todo-link";
import type { TodoStore } from "@/lib/todos/todo-store";

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
