import { Action, Notice } from "../notice";

/** In place of the dialog when its files are gone: the page is of a version that no server has any more. */
export function SignInElsewhere({ onSignedIn }: { onSignedIn: () => void }) {
  return (
    <Notice tone="waiting" text="Your session has ended. Sign in in another tab, then go on here.">
      <a href="/sign-in" target="_blank">
        Sign in
      </a>
      <Action onClick={onSignedIn}>Go on</Action>
    </Notice>
  );
}
