"use client";

import { usePathname, useSearchParams } from "next/navigation";
import { useEffect, useState, useSyncExternalStore } from "react";
import { createApi } from "@/lib/api";
import type { Todo } from "@/lib/api-types";
import { filterOf } from "@/lib/filters";
import { TodoStore } from "@/lib/todo-store";
import { Empty, Loading } from "./empty";
import { NewTodo } from "./new-todo";
import { Notices } from "./notices";
import styles from "./todo-app.module.css";
import { TodoFooter } from "./todo-footer";
import { TodoItem } from "./todo-item";
import { ToggleAll } from "./toggle-all";

/** The form that serves while there is no JavaScript yet; its buttons carry what they do. */
export const LIST_FORM = "todo-list-form";

interface Props {
  /** What the server had for the first page; null if the backend was away. */
  todos: Todo[] | null;
  idempotencyKey: string;
}

export function TodoApp({ todos, idempotencyKey }: Props) {
  const [store] = useState(() => new TodoStore(createApi(), todos));
  const { items, loaded, trouble, refusal } = useSyncExternalStore(
    store.subscribe,
    store.snapshot,
    store.snapshot,
  );
  const path = usePathname();
  const query = useSearchParams();
  const filter = filterOf(path);
  const shown = items.filter(filter.shows);
  const active = items.filter((item) => !item.completed).length;

  useEffect(() => store.start(), [store]);
  useLeaveWarning(trouble !== null && trouble.unsaved > 0);

  return (
    <section className={styles.card} aria-label="Todo list">
      <div className={styles.top}>
        {items.length > 0 && (
          <ToggleAll form={LIST_FORM} checked={active === 0} onToggle={(to) => { store.toggleAll(to); }} />
        )}
        <NewTodo
          path={filter.path}
          idempotencyKey={idempotencyKey}
          initial={query.get("title") ?? ""}
          rescued={refusal?.title}
          onAdd={(title) => store.add(title)}
        />
      </div>
      <Notices
        loaded={loaded}
        trouble={trouble}
        refusal={refusal?.text}
        formFailure={query.get("failed")}
        onRetry={() => { store.retry(); }}
        onDiscard={() => { store.discard(); }}
        onDismiss={() => {
          store.dismiss();
          if (query.has("failed")) window.history.replaceState(null, "", filter.path);
        }}
      />
      <form id={LIST_FORM} method="post" action="/form">
        <input type="hidden" name="back" value={filter.path} />
        {shown.length > 0 && (
          <ul className={styles.list} aria-label={`${filter.name} todos`}>
            {shown.map((item) => (
              <TodoItem
                key={item.key}
                item={item}
                onToggle={(completed) => { store.toggle(item.key, completed); }}
                onRename={(title) => { store.rename(item.key, title); }}
                onRemove={() => { store.remove(item.key); }}
              />
            ))}
          </ul>
        )}
        {shown.length === 0 && (loaded ? <Empty filter={filter} any={items.length > 0} /> : <Loading />)}
        {items.length > 0 && (
          <TodoFooter
            filter={filter}
            active={active}
            completed={items.length - active}
            onClear={() => { store.clearCompleted(); }}
          />
        )}
      </form>
    </section>
  );
}

/** Asks before the page is left with changes that could not be sent. */
function useLeaveWarning(unsaved: boolean) {
  useEffect(() => {
    if (!unsaved) return;
    const ask = (event: BeforeUnloadEvent) => {
      event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => {
      window.removeEventListener("beforeunload", ask);
    };
  }, [unsaved]);
}
