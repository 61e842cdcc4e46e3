import { useEffect, useRef } from "react";
import { TITLE_MAX } from "@/lib/api/api";
import styles from "./new-todo.module.css";

export const NEW_TODO = "new-todo";

interface Props {
  path: string;
  user: string | undefined;
  idempotencyKey: string;
  initial: string;
  /** A title that the server rejected; returns to the field if that is empty. */
  rescued: string | undefined;
  /** Returns false if the title is blank, so that nothing was added. */
  onAdd: (title: string) => boolean;
}

/** Uncontrolled, to keep text that was typed before the page's JavaScript was loaded. */
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
        // The main purpose of the page; TodoMVC's specification also requires it.
        autoFocus
      />
      <button type="submit" className={styles.add}>
        Add
      </button>
    </form>
  );
}
