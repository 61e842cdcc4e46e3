import styles from "./todo-app.module.css";

interface Props { fromMiddle: boolean; next: string | null; path: string }

/** Links through a long list, used until JavaScript loads the rest. */
export function LongList({ fromMiddle, next, path }: Props) {
  if (!fromMiddle && next === null) return null;
  return (
    <>
      {fromMiddle && (
        <p className={styles.pages}>
          <a href={path}>From the beginning</a>
        </p>
      )}
      {next !== null && (
        <noscript>
          <p className={styles.pages}>
            <a href={`${path}?${new URLSearchParams({ after: next }).toString()}`}>More todos</a>
          </p>
        </noscript>
      )}
    </>
  );
}
