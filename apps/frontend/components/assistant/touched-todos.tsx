import { deedsOf, type Touched } from "@/lib/assistant/assistant-messages";
import styles from "./touched-todos.module.css";

const NAMED = 8;

interface Props {
  touched: readonly Touched[];
  titles: ReadonlyMap<string, string>;
  onReveal: (id: string) => void;
}

/** The changed todos; existing ones link to the list. */
export function TouchedTodos({ touched, titles, onReveal }: Props) {
  return deedsOf(touched, titles).map(({ verb, todos }) => {
    const named = todos.filter(({ title }) => title !== undefined).slice(0, NAMED);
    const others = todos.length - named.length;
    return (
      <div key={verb} className={styles.deed}>
        <span className={styles.verb}>{verb}</span>
        <ul aria-label={verb}>
          {named.map(({ id, title }) => (
            <li key={id}>
              {titles.has(id) ? (
                <button type="button" className={styles.chip} dir="auto" title="Show in the list" onClick={() => { onReveal(id); }}>
                  {title}
                </button>
              ) : (
                <del className={styles.chip} dir="auto">
                  {title}
                </del>
              )}
            </li>
          ))}
          {others > 0 && (
            <li className={styles.others}>
              {named.length > 0 ? `and ${others} more` : `${others} ${others === 1 ? "todo" : "todos"}`}
            </li>
          )}
        </ul>
      </div>
    );
  });
}
