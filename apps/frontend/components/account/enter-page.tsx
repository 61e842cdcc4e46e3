import Head from "next/head";
import { signInAddress } from "@/lib/account/account-forms";
import type { EnterProps } from "@/lib/account/enter-props";
import { noticeText } from "@/lib/page/notices";
import { AccountForm } from "./account-form";
import { AccountPage } from "./account-page";

const WORDS = {
  "sign-in": { title: "Sign in", lead: "Good to see you again.", question: "New here?", link: "Create an account" },
  "sign-up": {
    title: "Create your account",
    lead: "You need an email address and a password.",
    question: "Have an account already?",
    link: "Sign in",
  },
} as const;

/** Sign-in and sign-up: the same page but for its words. */
export function EnterPage({ environment, mode, next, title, notice: said, returned }: EnterProps) {
  const words = WORDS[mode];
  const notice = returned ? undefined : noticeText(said);
  const other = signInAddress({ next, title });
  return (
    <>
      <Head>
        <title>{`${words.title} · Todos`}</title>
      </Head>
      <AccountPage
        title={words.title}
        lead={words.lead}
        notice={notice === undefined ? undefined : { text: notice, tone: "waiting" }}
        environment={environment}
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
          {...(next !== null && { next })}
          {...(title !== null && { title })}
        />
      </AccountPage>
    </>
  );
}
