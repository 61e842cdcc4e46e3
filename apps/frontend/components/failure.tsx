import styles from "./empty.module.css";

/** In place of a page that this program could not make; a backend that is away does not lead here. */
export function Failure() {
  return (
    <main className={styles.page} role="alert">
      <p className={styles.head}>Something went wrong on this page</p>
      <p>Todos that were saved are safe on the server.</p>
      {/* A fresh load: what the server sent with this page may be what is wrong. */}
      <a href="" className={styles.way}>
        Try again
      </a>
    </main>
  );
}
