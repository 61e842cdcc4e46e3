import type { GetServerSideProps } from "next";
import Head from "next/head";
import styles from "@/components/empty.module.css";
import { Header } from "@/components/header";
import { answer } from "@/lib/server/session";
import { settings } from "@/lib/server/settings";

interface Props { environment: string }

/** Answers all addresses without their own page. */
export const getServerSideProps: GetServerSideProps<Props> = (context) => {
  context.res.statusCode = 404;
  return answer(context, () => Promise.resolve({ environment: settings().environment }));
};

export default function NotFoundPage({ environment }: Props) {
  return (
    <>
      <Head>
        <title>Page not found · Todos</title>
      </Head>
      <Header environment={environment} />
      <main className={styles.page}>
        <p className={styles.head}>Page not found</p>
        <p>Check the address. The page may have moved.</p>
        {/* eslint-disable-next-line @next/next/no-html-link-for-pages -- a fresh load, on purpose */}
        <a href="/" className={styles.way}>
          Go to your todos
        </a>
      </main>
    </>
  );
}
