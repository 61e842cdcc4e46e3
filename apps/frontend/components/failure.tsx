import styles from "./empty.module.css";

/** In place of a page that this program could not make; a backend that is away does not lead here. */
export function Failure({ onRetry }: { onRetry?: () => void }) {
  return (
    <main className={styles.page} role="alert">
      <p className={styles.head}>Something went wrong on this page</p>
      <p>Your todos are safe on the server.</p>
      {onRetry ? (
        <button type="button" className={styles.way} onClick={onRetry}>
          Try again
        </button>
      ) : (
        <a href="" className={styles.way}>
          Try again
        </a>
      )}
    </main>
  );
}
