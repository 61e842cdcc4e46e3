import type { Filter } from "@/lib/todos/filters";
import styles from "./empty.module.css";
import { Check } from "./icons";

export function Empty({ filter, any }: { filter: Filter; any: boolean }) {
  const [head, hint] = !any
    ? ["Nothing to do yet", "Type a todo above and press Enter."]
    : filter.name === "Active"
      ? ["All done", "Every todo is completed."]
      : ["Nothing completed yet", "Completed todos appear here."];
  return (
    <div className={styles.empty}>
      <span className={styles.mark}>
        <Check />
      </span>
      <p className={styles.head}>{head}</p>
      <p>{hint}</p>
    </div>
  );
}

/** Placeholder rows for todos or messages. */
export function Loading() {
  return (
    <div className={styles.loading} aria-hidden="true">
      <span /><span /><span />
    </div>
  );
}
