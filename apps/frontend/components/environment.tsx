import styles from "./environment.module.css";

/** Says where this is, unless it is where it counts. */
export function Environment({ name }: { name: string }) {
  if (name === "production") return null;
  return (
    <p className={styles.environment}>
      <span className="visually-hidden">Environment: </span>
      {name}
    </p>
  );
}
