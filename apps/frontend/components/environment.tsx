import styles from "./environment.module.css";

/** Shows the environment's name, except in production. */
export function Environment({ name }: { name: string }) {
  if (name === "production") return null;
  return (
    <p className={styles.environment}>
      <span className="visually-hidden">Environment: </span>
      {name}
    </p>
  );
}
