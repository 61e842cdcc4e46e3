import { type KeyboardEvent, memo, useEffect, useRef, useState } from "react";
import { TITLE_MAX } from "@/lib/api/api";
import type { Item } from "@/lib/todos/operations";
import { keepFocusNear } from "@/lib/page/focus";
import type { TodoStore } from "@/lib/todos/todo-store";
import { FormButton } from "./form-button";
import styles from "./todo-item.module.css";

interface Props {
  item: Item;
  /** Somebody else, such as the assistant, has just changed it. */
  touched: boolean;
  store: Pick<TodoStore, "toggle" | "rename" | "remove">;
}

/**
 * Of a list of thousands only what changed is drawn again. The icons come from the style sheet: as
 * elements they would be half of the page, for the server to render and for the browser to adopt.
 */
export const TodoItem = memo(function TodoItem({ item, touched, store }: Props) {
  const [editing, setEditing] = useState(false);
  const row = useRef<HTMLLIElement>(null);
  /** The keyboard's place goes back to the row when its other controls are there again. */
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
  /** `from`: the title at the beginning; somebody else may have changed it since. */
  onSave: (title: string, from: string) => void;
  /** `byKey`: not by going elsewhere. */
  onClose: (byKey: boolean) => void;
}

function Editor({ title, onSave, onClose }: EditorProps) {
  const [from] = useState(title);
  // Leaving the field by Enter or Escape blurs it too: only the first of them counts.
  const done = useRef(false);
  // Somebody else has deleted or completed the todo, and the row goes: what was typed does not.
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
    // Enter that ends a composition (Japanese, Chinese) is not meant for us.
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault(); // it would send the form around the list
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
