import { useEffect, useRef } from "react";
import { TITLE_MAX } from "@/lib/api/api";
import styles from "./new-todo.module.css";

export const NEW_TODO = "new-todo";

interface Props {
  path: string;
  user: string | undefined;
  idempotencyKey: string;
  initial: string;
  /** What was typed, shown and then refused: it comes back, unless something else is there. */
  rescued: string | undefined;
  /** Returns false if the title is blank, so that nothing was added. */
  onAdd: (title: string) => boolean;
}

/** Uncontrolled, so that what is typed before the page's JavaScript has arrived stays. */
export function NewTodo({ path, user, idempotencyKey, initial, rescued, onAdd }: Props) {
  const input = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (rescued && input.current?.value === "") input.current.value = rescued;
  }, [rescued]);

  return (
    <form
      className={styles.form}
      method="post"
      action="/form"
      onSubmit={(event) => {
        event.preventDefault();
        if (input.current && onAdd(input.current.value)) input.current.value = "";
      }}
    >
      <input type="hidden" name="do" value="add" />
      <input type="hidden" name="back" value={path} />
      <input type="hidden" name="user" value={user} />
      <input type="hidden" name="idempotency-key" value={idempotencyKey} />
      <label htmlFor={NEW_TODO} className="visually-hidden">
        New todo
      </label>
      <input
        ref={input}
        id={NEW_TODO}
        name="title"
        className={styles.input}
        defaultValue={initial}
        placeholder="What needs to be done?"
        maxLength={TITLE_MAX}
        autoComplete="off"
        enterKeyHint="done"
        dir="auto"
        // The page is for this; TodoMVC's specification asks for it as well.
        autoFocus
      />
      <button type="submit" className={styles.add}>
        Add
      </button>
    </form>
  );
}
