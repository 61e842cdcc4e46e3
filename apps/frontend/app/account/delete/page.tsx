import type { Metadata } from "next";
import { AccountPage } from "@/components/account/account-page";
import styles from "@/components/account/account-page.module.css";
import type { Query } from "@/components/account/enter-page";
import { formFailureText } from "@/lib/notices";
import { callersApi, orSignIn, signIn } from "@/lib/session";
import { settings } from "@/lib/settings";

export const metadata: Metadata = { title: "Delete account · Todos" };

/** Asks before it is done; a page, and not a dialog, so that it works without JavaScript. */
export default async function DeleteAccountPage({ searchParams }: { searchParams: Query }) {
  const api = (await callersApi()) ?? (await signIn());
  const user = await orSignIn("account", api.me());
  const { failed } = await searchParams;
  const failure = formFailureText(typeof failed === "string" ? failed : undefined);
  return (
    <AccountPage
      title="Delete your account?"
      lead={
        <>
          {user === null ? "Your account" : <bdi>{user.email}</bdi>}, its todos and everything else that is stored with
          it go for good. This cannot be undone.
        </>
      }
      notice={failure === undefined ? undefined : { text: failure, tone: "refused" }}
      environment={settings().environment}
    >
      <form className={styles.actions} method="post" action="/form/account">
        <button type="submit" name="do" value="delete-account" className={styles.danger}>
          Delete account and todos
        </button>
        {/* eslint-disable-next-line @next/next/no-html-link-for-pages -- a fresh load, on purpose */}
        <a href="/" className={styles.keep}>
          Keep my account
        </a>
      </form>
    </AccountPage>
  );
}
