import { Action, Notice } from "../notice";

/** Replaces the dialog if its files are gone, because no server has the page's version any more. */
export function SignInElsewhere({ onSignedIn }: { onSignedIn: () => void }) {
  return (
    <Notice tone="waiting" text="Your session has ended. Sign in in another tab, then continue here.">
      <a href="/sign-in" target="_blank">
        Sign in
      </a>
      <Action onClick={onSignedIn}>Go on</Action>
    </Notice>
  );
}
