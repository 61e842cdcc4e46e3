import { type KeyboardEvent, memo, useEffect, useRef, useState } from "react";
import { TITLE_MAX } from "@/lib/api/api";
import type { Item } from "@/lib/todos/operations";
import { keepFocusNear } from "@/lib/page/focus";
import type { TodoStore } from "@/lib/todos/todo-store";
import { FormButton } from "./form-button";
import styles from "./todo-item.module.css";

interface Props {
  item: Item;
  /** Another client or the assistant has just changed it. */
  touched: boolean;
  store: Pick<TodoStore, "toggle" | "rename" | "remove">;
}

/**
 * Memoized, so that only changed rows of a long list render again. The icons are in the style sheet:
 * as elements they would be half of the page, to render and to hydrate.
 */
export const TodoItem = memo(function TodoItem({ item, touched, store }: Props) {
  const [editing, setEditing] = useState(false);
  const row = useRef<HTMLLIElement>(null);
  /** Returns the focus to the row when its other controls are back. */
  const returning = useRef(false);
  const id = item.id ?? "";
  const title = `title-${item.key}`;

  useEffect(() => {
    if (!editing && returning.current) row.current?.querySelector<HTMLElement>("[role=checkbox]")?.focus();
    returning.current = false;
  }, [editing]);

  return (
    <li
      ref={row}
      className={styles.item}
      data-completed={item.completed}
      data-editing={editing || undefined}
      data-pending={item.pending || undefined}
      data-touched={touched || undefined}
      aria-busy={item.pending || undefined}
    >
      {/* A button with a checkbox's role: unlike a checkbox, it also works as part of a plain form. */}
      <FormButton
        role="checkbox"
        aria-checked={item.completed}
        aria-labelledby={title}
        className={styles.toggle}
        action={`toggle ${id} ${String(!item.completed)}`}
        onPress={() => {
          keepFocusNear(row.current);
          store.toggle(item.key, !item.completed);
        }}
      />
      <span
        id={title}
        className={styles.title}
        hidden={editing}
        dir="auto"
        onDoubleClick={() => { setEditing(true); }}
      >
        {item.title}
      </span>
      {editing ? (
        <Editor
          title={item.title}
          onSave={(text, from) => {
            if (!text.trim()) keepFocusNear(row.current);
            store.rename(item.key, text, from);
          }}
          onClose={(byKey) => {
            returning.current = byKey;
            setEditing(false);
          }}
        />
      ) : (
        <span className={styles.actions}>
          <button
            type="button"
            className={styles.edit}
            aria-label={`Edit “${item.title}”`}
            title="Edit"
            onClick={() => { setEditing(true); }}
          />
          <FormButton
            className={styles.remove}
            aria-label={`Delete “${item.title}”`}
            title="Delete"
            action={`remove ${id}`}
            onPress={() => {
              keepFocusNear(row.current);
              store.remove(item.key);
            }}
          />
        </span>
      )}
    </li>
  );
});

interface EditorProps {
  title: string;
  /** `from`: the title before editing; somebody else may have changed it since. */
  onSave: (title: string, from: string) => void;
  /** `byKey`: with a key, not by leaving the field. */
  onClose: (byKey: boolean) => void;
}

function Editor({ title, onSave, onClose }: EditorProps) {
  const [from] = useState(title);
  // Enter and Escape also blur the field; only the first event counts.
  const done = useRef(false);
  // Keeps the text if the row disappears because somebody else deleted or completed the todo.
  const [saveAtEnd] = useState(() => (field: HTMLInputElement) => () => {
    if (!done.current && field.value.trim()) onSave(field.value, from);
  });
  const finish = (byKey: boolean, text?: string) => {
    if (done.current) return;
    done.current = true;
    if (text !== undefined) onSave(text, from);
    onClose(byKey);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>) => {
    // Ignores the Enter that ends an IME composition (Japanese, Chinese).
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault(); // otherwise it would submit the list's form
      finish(true, event.currentTarget.value);
    } else if (event.key === "Escape") finish(true);
  };
  return (
    <input
      ref={saveAtEnd}
      className={styles.editor}
      aria-label={`Edit “${title}”`}
      defaultValue={title}
      maxLength={TITLE_MAX}
      dir="auto"
      autoComplete="off"
      enterKeyHint="done"
      autoFocus
      onFocus={(event) => {
        event.currentTarget.setSelectionRange(title.length, title.length);
      }}
      onKeyDown={onKeyDown}
      onBlur={(event) => { finish(false, event.currentTarget.value); }}
    />
  );
}
