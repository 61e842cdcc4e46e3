import dynamic from "next/dynamic";
import Head from "next/head";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { go, useAddress } from "@/lib/page/address";
import type { User } from "@/lib/api/api-types";
import { filterOf } from "@/lib/todos/filters";
import type { TodoStore } from "@/lib/todos/todo-store";
import { SignInElsewhere } from "./account/sign-in-elsewhere";
import { Empty, Loading } from "./empty";
import { FormButton } from "./form-button";
import { LongList } from "./long-list";
import { NewTodo } from "./new-todo";
import { Notices } from "./notices";
import styles from "./todo-app.module.css";
import { TodoFooter } from "./todo-footer";
import { TodoItem } from "./todo-item";
import itemStyles from "./todo-item.module.css";
import { showUndone, useListEnd, useUndoKey } from "./use-page";

// Rarely needed, so pages load it separately.
const SessionDialog = dynamic(
  () => import("./account/session-dialog").catch(() => ({ default: SignInElsewhere })),
  { ssr: false },
);

/** The form for use without JavaScript; its buttons contain the actions. */
export const LIST_FORM = "todo-list-form";

export type PageUser = Pick<User, "id" | "email">;

interface Props {
  address: string;
  store: TodoStore;
  next: string | null;
  /** The page does not start at the list's beginning; happens only without JavaScript. */
  fromMiddle?: boolean;
  user: PageUser | null;
  idempotencyKey: string;
}

export function TodoApp({ address, store, next, fromMiddle = false, user, idempotencyKey }: Props) {
  const snapshot = useSyncExternalStore(store.subscribe, store.snapshot, store.snapshot);
  const { items, touched, loaded, more, refusals } = snapshot;
  const [signingIn, setSigningIn] = useState(false);
  const { pathname, searchParams: query } = useAddress(address);
  const filter = filterOf(pathname);
  const shown = items.filter(filter.shows);
  const active = items.filter((item) => !item.completed).length;
  const areAllDone = active === 0;

  const end = useRef<HTMLDivElement>(null);
  const undo = () => {
    const undone = store.undo();
    if (undone) showUndone(undone);
    return undone !== undefined;
  };

  useEffect(() => store.start(), [store]);
  useListEnd(end, items.length, () => { store.more(); });
  useUndoKey(undo);

  return (
    <section className={styles.card} aria-label="Todo list">
      <Head>
        <title>{filter.path === "/" ? "Todos" : `${filter.name} · Todos`}</title>
      </Head>
      <div className={styles.top}>
        {items.length > 0 && (
          <FormButton
            form={LIST_FORM}
            role="checkbox"
            aria-checked={areAllDone}
            aria-label="Mark all as complete"
            title={areAllDone ? "Mark all as active" : "Mark all as complete"}
            className={`${itemStyles.toggle} ${itemStyles.all}`}
            action={`toggle-all ${String(!areAllDone)}`}
            onPress={() => { store.toggleAll(!areAllDone); }}
          />
        )}
        <NewTodo
          path={filter.path}
          user={user?.id}
          idempotencyKey={idempotencyKey}
          initial={query.get("title") ?? ""}
          rescued={refusals.findLast(({ title, overwrite }) => title !== undefined && !overwrite)?.title}
          onAdd={(title) => store.add(title)}
        />
      </div>
      <Notices
        store={store}
        snapshot={snapshot}
        formFailure={query.get("failed")}
        onUndo={undo}
        onSeen={() => { go(filter.path, "replaceState"); }}
        onSignIn={() => { setSigningIn(true); }}
      />
      {signingIn && (
        <SessionDialog
          user={user}
          onClose={() => { setSigningIn(false); }}
          onSignedIn={() => {
            setSigningIn(false);
            store.retry(true);
          }}
        />
      )}
      <form id={LIST_FORM} method="post" action="/form">
        <input type="hidden" name="back" value={filter.path} />
        <input type="hidden" name="user" value={user?.id} />
        {shown.length > 0 && (
          <ul className={styles.list} aria-label={`${filter.name} todos`}>
            {shown.map((item) => (
              <TodoItem
                key={item.key}
                item={item}
                touched={item.id !== undefined && touched.has(item.id)}
                store={store}
              />
            ))}
          </ul>
        )}
        {more && <div ref={end} />}
        {shown.length === 0 && (loaded && !more ? <Empty filter={filter} any={items.length > 0} /> : <Loading />)}
        <LongList fromMiddle={fromMiddle} next={next} path={filter.path} />
        {items.length > 0 && (
          <TodoFooter
            filter={filter}
            active={active}
            more={more}
            completed={items.length - active}
            onClear={() => { store.clearCompleted(); }}
          />
        )}
      </form>
    </section>
  );
}
