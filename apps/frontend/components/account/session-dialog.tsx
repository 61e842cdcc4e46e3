import { useEffect, useRef } from "react";
import { afterSignIn } from "@/lib/account/account-forms";
import { AccountForm } from "./account-form";
import styles from "./session-dialog.module.css";

interface Props { user: { id: string; email: string } | null; onClose: () => void; onSignedIn: () => void }

/** Signs in without leaving the page, which keeps unsaved text. */
export default function SessionDialog({ user, onClose, onSignedIn }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);

  useEffect(() => {
    dialog.current?.showModal();
    // The user is known, so the focus skips the email.
    if (user) dialog.current?.querySelector<HTMLElement>("[type=password]")?.focus();
  }, [user]);

  return (
    <dialog ref={dialog} className={styles.dialog} aria-labelledby="session-dialog-title" onClose={onClose}>
      <h2 id="session-dialog-title">Sign in to continue</h2>
      <p>Your text is kept.</p>
      <AccountForm
        mode="sign-in"
        email={user?.email}
        onSignedIn={({ id }) => {
          // Another user: shows their todos and nothing of this page.
          if (user !== null && id !== user.id) window.location.assign(afterSignIn());
          else onSignedIn();
        }}
      />
      <button type="button" className={styles.close} onClick={onClose}>
        Not now
      </button>
    </dialog>
  );
}
