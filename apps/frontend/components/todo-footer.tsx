import type { MouseEvent } from "react";
import { go } from "@/lib/page/address";
import { type Filter, FILTERS } from "@/lib/todos/filters";
import { FormButton } from "./form-button";
import styles from "./todo-footer.module.css";
import { useSettled } from "./use-page";

/** Screen readers read the count once it is unchanged for this time, in milliseconds. */
const QUIET = 1_000;

interface Props {
  filter: Filter;
  active: number;
  /** Some todos haven't loaded yet, so the count is a minimum. */
  more: boolean;
  completed: number;
  onClear: () => void;
}

export function TodoFooter({ filter, active, more, completed, onClear }: Props) {
  const count = `${String(active)}${more ? "+" : ""}`;
  return (
    <div className={styles.footer}>
      <p className={styles.count}>
        {`${count} ${active === 1 && !more ? "item" : "items"} left`}
      </p>
      <p className="visually-hidden" aria-live="polite">
        {useSettled(`Left to do: ${count}`, QUIET)}
      </p>
      <nav className={styles.filters} aria-label="Filter">
        {FILTERS.map(({ name, path }) => (
          <a
            key={path}
            href={path}
            aria-current={path === filter.path ? "page" : undefined}
            onClick={(event) => { navigate(event, path); }}
          >
            {name}
          </a>
        ))}
      </nav>
      {completed > 0 ? (
        <FormButton
          className={styles.clear}
          action="clear-completed"
          onPress={() => {
            document.querySelector<HTMLElement>("#new-todo")?.focus();
            onClear();
          }}
        >
          Clear completed
        </FormButton>
      ) : (
        <span className={styles.clear} />
      )}
    </div>
  );
}

function navigate(event: MouseEvent<HTMLAnchorElement>, path: string) {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (window.location.pathname !== path) go(path);
}
