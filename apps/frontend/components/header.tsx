import type { ReactNode } from "react";
import { Environment } from "./environment";
import styles from "./header.module.css";

export function Header({ environment, children }: { environment: string; children?: ReactNode }) {
  return (
    <header className={styles.header}>
      <h1 className={styles.title}>Todos</h1>
      <div className={styles.side}>
        <Environment name={environment} />
        {children}
      </div>
    </header>
  );
}
