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
    question: "Already have an account?",
    link: "Sign in",
  },
} as const;

export function EnterPage({ environment, mode, next, title, notice, returned }: EnterProps) {
  const words = WORDS[mode];
  const signIn = signInAddress({ next, title });
  const other = mode === "sign-in" ? signIn.replace("/sign-in", "/sign-up") : signIn;
  return (
    <AccountPage
      title={words.title}
      lead={words.lead}
      said={returned ? undefined : noticeText(notice)}
      environment={environment}
      other={<>{words.question} <a href={other}>{words.link}</a></>}
    >
      <AccountForm mode={mode} email={returned?.email} complaints={returned?.complaints} next={next} title={title} />
    </AccountPage>
  );
}
