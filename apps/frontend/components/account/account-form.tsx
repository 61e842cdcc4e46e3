import { type SyntheticEvent, useEffect, useRef, useState } from "react";
import {
  afterSignIn,
  check,
  type Complaint,
  complaintsOf,
  EMAIL_MAX,
  type Mode,
  PASSWORD_MAX,
  PASSWORD_MIN,
} from "@/lib/account/account-forms";
import { createApi } from "@/lib/api/api";
import type { User } from "@/lib/api/api-types";
import { formText } from "@/lib/page/form-text";
import styles from "./account-form.module.css";
import { Field } from "./field";

interface Props {
  mode: Mode;
  email?: string | undefined;
  complaints?: Complaint[] | undefined;
  /** The address after signing in; see afterSignIn. */
  next?: string | null;
  /** A todo that the user typed when the session ended. */
  title?: string | null;
  /** Absent: reloads the page with the todos, so that no data of another user remains. */
  onSignedIn?: (user: User) => void;
}

const WORDS = {
  "sign-in": { button: "Sign in", busy: "Signing in…", autoComplete: "current-password" },
  "sign-up": { button: "Create account", busy: "Creating your account…", autoComplete: "new-password" },
} as const;

/** Uncontrolled, to keep text that was typed before the page's JavaScript was loaded. */
export function AccountForm({ mode, email, complaints: initial = [], next, title, onSignedIn }: Props) {
  const form = useRef<HTMLFormElement>(null);
  const [complaints, setComplaints] = useState(initial);
  const [busy, setBusy] = useState(false);
  const words = WORDS[mode];
  const about = (field?: string) => complaints.find((complaint) => complaint.field === field)?.text;

  // Moves the focus to the field with the error.
  useEffect(() => {
    if (complaints.length === 0) return;
    const wrong = form.current?.querySelector<HTMLElement>("[aria-invalid=true]");
    (wrong ?? form.current?.querySelector<HTMLElement>("[type=password]"))?.focus();
  }, [complaints]);

  async function submit(event: SyntheticEvent<HTMLFormElement>) {
    event.preventDefault();
    if (busy) return;
    const typed = new FormData(event.currentTarget);
    const credentials = { email: formText(typed, "email"), password: formText(typed, "password") };
    const wrong = check(mode, credentials.email, credentials.password);
    setComplaints(wrong);
    if (wrong.length > 0) return;
    setBusy(true);
    try {
      const api = createApi();
      const { user } = await (mode === "sign-up" ? api.signUp(credentials) : api.signIn(credentials));
      if (onSignedIn) onSignedIn(user);
      else window.location.assign(afterSignIn(next, title));
    } catch (error) {
      setComplaints(complaintsOf(error));
      setBusy(false);
    }
  }

  return (
    <form
      ref={form}
      className={styles.form}
      method="post"
      action="/form/account"
      noValidate
      aria-busy={busy}
      onSubmit={(event) => void submit(event)}
    >
      <input type="hidden" name="do" value={mode} />
      {next && <input type="hidden" name="next" value={next} />}
      {title && <input type="hidden" name="title" value={title} />}
      {/* Exists before its text; otherwise screen readers would not read it. */}
      <div role="alert">{about() !== undefined && <p className={styles.refusal}>{about()}</p>}</div>
      <Field
        label="Email"
        name="email"
        type="email"
        error={about("email")}
        defaultValue={email}
        maxLength={EMAIL_MAX}
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        autoFocus={!email}
      />
      <Field
        label="Password"
        name="password"
        type="password"
        error={about("password")}
        hint={mode === "sign-up" ? `At least ${PASSWORD_MIN} characters.` : undefined}
        maxLength={mode === "sign-up" ? 2 * PASSWORD_MAX : undefined}
        autoComplete={words.autoComplete}
        autoFocus={Boolean(email)}
      />
      <button type="submit" className={styles.submit} aria-disabled={busy}>
        {busy ? words.busy : words.button}
      </button>
    </form>
  );
}
