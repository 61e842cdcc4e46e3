import formStyles from "@/components/account/account-form.module.css";
import { AccountPage } from "@/components/account/account-page";
import styles from "@/components/account/account-page.module.css";
import { Field } from "@/components/account/field";
import { PASSWORD_MIN } from "@/lib/account/account-forms";
import { formFailureText } from "@/lib/page/notices";
import { type AccountProps, accountProps } from "@/lib/server/account-props";

export const getServerSideProps = accountProps;

export default function AccountSettingsPage({ environment, user, failed, changed }: AccountProps) {
  return (
    <AccountPage
      title="Your account"
      lead={<bdi>{user?.email}</bdi>}
      said={changed ? "The password is changed. Other sessions have ended." : undefined}
      refused={formFailureText(failed)}
      environment={environment}
      // eslint-disable-next-line @next/next/no-html-link-for-pages -- a fresh load, on purpose
      other={<a href="/">Back to your todos</a>}
    >
      <form className={formStyles.form} method="post" action="/form/account">
        <input type="hidden" name="user" value={user?.id} />
        <Field label="Password now" name="password" type="password" autoComplete="current-password" />
        <Field
          label="New password"
          name="new-password"
          type="password"
          hint={`At least ${PASSWORD_MIN} characters. All other sessions end.`}
          autoComplete="new-password"
        />
        <button type="submit" name="do" value="change-password" className={formStyles.submit}>
          Change password
        </button>
      </form>
      <form className={styles.actions} method="post" action="/form/account">
        <input type="hidden" name="user" value={user?.id} />
        <button type="submit" name="do" value="sign-out-everywhere" className={styles.danger}>
          Sign out everywhere
        </button>
      </form>
    </AccountPage>
  );
}
