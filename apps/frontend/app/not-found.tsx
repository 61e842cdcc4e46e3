import { Header } from "@/components/header";
import styles from "@/components/empty.module.css";
import { settings } from "@/lib/settings";

export default function NotFound() {
  return (
    <>
      <Header environment={settings().environment} />
      <main className={styles.empty}>
        <p className={styles.head}>There is no such page</p>
        <p>
          {/* eslint-disable-next-line @next/next/no-html-link-for-pages -- a fresh load, on purpose */}
          <a href="/">Go to your todos</a>
        </p>
      </main>
    </>
  );
}
