"use client";

import { useEffect } from "react";
import styles from "@/components/empty.module.css";

/** An error of this program's own; a backend that is away does not lead here. */
export default function ErrorPage({ error, reset }: { error: Error; reset: () => void }) {
  useEffect(() => {
    // Files of a version that no server has any more: lib/stale-assets.ts loads the page again.
    if (error.name === "ChunkLoadError") dispatchEvent(new Event("stale-assets"));
  }, [error]);
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
