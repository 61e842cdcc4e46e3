import type { GetServerSideProps } from "next";
import Head from "next/head";
import { AccountPage } from "@/components/account/account-page";
import styles from "@/components/account/account-page.module.css";
import type { PageUser } from "@/components/todo-app";
import { formFailureText } from "@/lib/page/notices";
import { answer, callersApi, orSignIn, queried, signIn } from "@/lib/server/session";
import { settings } from "@/lib/server/settings";

interface Props {
  environment: string;
  user: PageUser | null;
  failed: string | null;
}

export const getServerSideProps: GetServerSideProps<Props> = (context) =>
  answer(context, async () => {
    const api = callersApi(context) ?? signIn(context);
    const user = await orSignIn(context, "account", api.me());
    return { environment: settings().environment, user: user && { id: user.id, email: user.email }, failed: queried(context, "failed") };
  });

/** Asks before it is done; a page, and not a dialog, so that it works without JavaScript. */
export default function DeleteAccountPage({ environment, user, failed }: Props) {
  const failure = formFailureText(failed);
  return (
    <>
      <Head>
        <title>Delete account · Todos</title>
      </Head>
      <AccountPage
        title="Delete your account?"
        lead={
          <>
            {user === null ? "Your account" : <bdi>{user.email}</bdi>}, its todos and everything else that is stored with it
            go for good. This cannot be undone.
          </>
        }
        notice={failure === undefined ? undefined : { text: failure, tone: "refused" }}
        environment={environment}
      >
        <form className={styles.actions} method="post" action="/form/account">
          <input type="hidden" name="user" value={user?.id} />
          <button type="submit" name="do" value="delete-account" className={styles.danger}>
            Delete account and todos
          </button>
          {/* eslint-disable-next-line @next/next/no-html-link-for-pages -- a fresh load, on purpose */}
          <a href="/" className={styles.keep}>
            Keep my account
          </a>
        </form>
      </AccountPage>
    </>
  );
}
