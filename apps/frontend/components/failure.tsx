import styles from "./empty.module.css";

/** Replaces a page that failed to render. An unavailable backend does not lead here. */
export function Failure() {
  return (
    <main className={styles.page} role="alert">
      <p className={styles.head}>Something went wrong on this page</p>
      <p>Todos that were saved are safe on the server.</p>
      {/* A full load, because the data of this page may cause the error. */}
      <a href="" className={styles.way}>
        Try again
      </a>
    </main>
  );
}
