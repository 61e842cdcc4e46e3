import styles from "./header.module.css";

export function Header({ environment }: { environment: string }) {
  return (
    <header className={styles.header}>
      <h1 className={styles.title}>Todos</h1>
      {environment !== "production" && (
        <p className={styles.environment}>
          <span className="visually-hidden">Environment: </span>
          {environment}
        </p>
      )}
    </header>
  );
}
