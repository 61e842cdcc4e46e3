import { useEffect, useRef, useState } from "react";
import type { PageUser } from "@/components/todo-app";
import styles from "./account-menu.module.css";

interface Props {
  user: PageUser | null;
  /** Resolves when everything is saved, or cannot be saved for now. */
  settle: () => Promise<void>;
}

/** Works without JavaScript. With it, Escape and a click elsewhere also close it. */
export function AccountMenu({ user, settle }: Props) {
  const email = user?.email ?? null;
  const [saving, setSaving] = useState(false);
  const menu = useRef<HTMLDetailsElement>(null);

  useEffect(() => {
    const close = (event: Event) => {
      if (!menu.current?.open) return;
      if (event instanceof KeyboardEvent) {
        if (event.key !== "Escape") return;
        if (menu.current.contains(document.activeElement)) menu.current.querySelector("summary")?.focus();
      } else if (menu.current.contains(event.target as Node)) return;
      menu.current.open = false;
    };
    const kinds = ["keydown", "pointerdown", "focusin"] as const;
    for (const kind of kinds) document.addEventListener(kind, close);
    return () => {
      for (const kind of kinds) document.removeEventListener(kind, close);
    };
  }, []);

  return (
    <details ref={menu} className={styles.menu}>
      <summary className={styles.button} aria-label={email === null ? "Account" : `Account: ${email}`}>
        <span className={styles.initial} aria-hidden="true">
          {Array.from(email ?? "?")[0]?.toUpperCase()}
        </span>
      </summary>
      <div className={styles.panel}>
        {email !== null && (
          <p className={styles.who}>
            <span className={styles.small}>Signed in as</span>
            <bdi>{email}</bdi>
          </p>
        )}
        <form
          method="post"
          action="/form/account"
          onSubmit={(event) => {
            event.preventDefault();
            const form = event.currentTarget;
            setSaving(true);
            void settle().then(() => {
              form.submit();
              // The user may cancel.
              setSaving(false);
            });
          }}
        >
          <input type="hidden" name="do" value="sign-out" />
          <input type="hidden" name="user" value={user?.id} />
          <button type="submit" className={styles.entry} disabled={saving}>
            {saving ? "Saving…" : "Sign out"}
          </button>
        </form>
        {/* eslint-disable @next/next/no-html-link-for-pages -- a fresh load, on purpose */}
        <a href="/account" className={styles.entry}>
          Password and sessions…
        </a>
        <a href="/account/delete" className={`${styles.entry} ${styles.grave}`}>
          Delete account…
        </a>
      </div>
    </details>
  );
}
