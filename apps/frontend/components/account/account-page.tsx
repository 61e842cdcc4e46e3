import type { ReactNode } from "react";
import { Check } from "../icons";
import { Environment } from "../environment";
import styles from "./account-page.module.css";

interface Props {
  title: string;
  lead: ReactNode;
  notice?: { text: string; tone: "waiting" | "refused" } | undefined;
  environment: string;
  /** Below the card: the other way. */
  other?: ReactNode;
  children: ReactNode;
}

/** What sign-in, sign-up and the end of an account look like. */
export function AccountPage({ title, lead, notice, environment, other, children }: Props) {
  return (
    <main className={styles.page}>
      <p className={styles.brand}>
        <span className={styles.mark}>
          <Check />
        </span>
        Todos
      </p>
      <div className={styles.card}>
        <h1>{title}</h1>
        <p className={styles.lead}>{lead}</p>
        {notice && (
          <p className={styles.notice} data-tone={notice.tone} role={notice.tone === "refused" ? "alert" : "status"}>
            {notice.text}
          </p>
        )}
        {children}
      </div>
      {other && <p className={styles.other}>{other}</p>}
      <div className={styles.environment}>
        <Environment name={environment} />
      </div>
    </main>
  );
}
