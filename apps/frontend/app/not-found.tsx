import { Header } from "@/components/header";
import styles from "@/components/empty.module.css";
import { settings } from "@/lib/server/settings";

export default function NotFound() {
  return (
    <>
      <Header environment={settings().environment} />
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
