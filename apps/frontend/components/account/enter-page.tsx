import { cookies } from "next/headers";
import { redirect } from "next/navigation";
import { afterSignIn, type Mode, signInAddress } from "@/lib/account-forms";
import { noticeText } from "@/lib/notices";
import { readReturned, RETURNED_COOKIE } from "@/lib/returned-form";
import { callerIfAny } from "@/lib/session";
import { settings } from "@/lib/settings";
import { AccountForm } from "./account-form";
import { AccountPage } from "./account-page";

export type Query = Promise<Record<string, string | string[] | undefined>>;

const WORDS = {
  "sign-in": { title: "Sign in", lead: "Good to see you again.", question: "New here?", link: "Create an account" },
  "sign-up": {
    title: "Create your account",
    lead: "An email and a password, and your list is ready.",
    question: "Have an account already?",
    link: "Sign in",
  },
} as const;

/** Sign-in and sign-up: the same page but for its words. */
export async function EnterPage({ mode, query }: { mode: Mode; query: Query }) {
  const asked = await query;
  const one = (name: string) => (typeof asked[name] === "string" ? asked[name] : undefined);
  const [next, title] = [one("next"), one("title")];
  if (await callerIfAny()) redirect(afterSignIn(next ?? null, title));

  const returned = readReturned((await cookies()).get(RETURNED_COOKIE)?.value, mode);
  const words = WORDS[mode];
  const notice = returned ? undefined : noticeText(one("notice"));
  const other = signInAddress({ next: next ?? null, title: title ?? null });
  return (
    <AccountPage
      title={words.title}
      lead={words.lead}
      notice={notice === undefined ? undefined : { text: notice, tone: "waiting" }}
      environment={settings().environment}
      other={
        <>
          {words.question}{" "}
          <a href={mode === "sign-in" ? other.replace("/sign-in", "/sign-up") : other}>{words.link}</a>
        </>
      }
    >
      <AccountForm
        mode={mode}
        {...(returned && { email: returned.email, complaints: returned.complaints })}
        {...(next !== undefined && { next })}
        {...(title !== undefined && { title })}
      />
    </AccountPage>
  );
}
