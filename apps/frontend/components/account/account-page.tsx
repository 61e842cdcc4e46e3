import Head from "next/head";
import type { ReactNode } from "react";
import { Check } from "../icons";
import { Environment } from "../environment";
import styles from "./account-page.module.css";

interface Props {
  title: string;
  lead: ReactNode;
  said?: string | undefined;
  /** Why nothing was changed; instead of `said`. */
  refused?: string | undefined;
  environment: string;
  other?: ReactNode;
  children: ReactNode;
}

export function AccountPage({ title, lead, said, refused, environment, other, children }: Props) {
  return (
    <main className={styles.page}>
      <Head>
        <title>{`${title} · Todos`}</title>
      </Head>
      <p className={styles.brand}>
        <span className={styles.mark}>
          <Check />
        </span>
        Todos
      </p>
      <div className={styles.card}>
        <h1>{title}</h1>
        <p className={styles.lead}>{lead}</p>
        {(refused ?? said) && (
          <p className={styles.notice} data-refused={Boolean(refused)} role={refused ? "alert" : "status"}>
            {refused ?? said}
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
