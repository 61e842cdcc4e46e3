"use client";

import styles from "@/components/empty.module.css";

/** An error of this program's own; a backend that is away does not lead here. */
export default function ErrorPage({ reset }: { error: Error; reset: () => void }) {
  return (
    <main className={styles.page} role="alert">
      <p className={styles.head}>Something went wrong on this page</p>
      <p>Your todos are safe on the server.</p>
      <button type="button" className={styles.way} onClick={reset}>
        Try again
      </button>
    </main>
  );
}
