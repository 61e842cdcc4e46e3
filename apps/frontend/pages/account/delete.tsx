import { AccountPage } from "@/components/account/account-page";
import styles from "@/components/account/account-page.module.css";
import { Field } from "@/components/account/field";
import { formFailureText } from "@/lib/page/notices";
import { type AccountProps, accountProps } from "@/lib/server/account-props";

export const getServerSideProps = accountProps;

/** Asks before deleting. A page instead of a dialog, so that it works without JavaScript. */
export default function DeleteAccountPage({ environment, user, failed }: AccountProps) {
  return (
    <AccountPage
      title="Delete your account?"
      lead={
        <>
          {user === null ? "Your account" : <bdi>{user.email}</bdi>}, its todos and everything else that is stored with it go
          for good. This cannot be undone.
        </>
      }
      refused={formFailureText(failed)}
      environment={environment}
    >
      <form className={styles.actions} method="post" action="/form/account">
        <input type="hidden" name="user" value={user?.id} />
        <Field label="Password" name="password" type="password" autoComplete="current-password" />
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
