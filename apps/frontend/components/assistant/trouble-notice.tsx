import { Action, Notice } from "@/components/notice";
import { signInAddress } from "@/lib/account/account-forms";
import type { Trouble } from "@/lib/assistant/assistant-trouble";

interface Props {
  trouble: Trouble | null;
  onRetry: () => void;
  onDismiss: () => void;
}

export function TroubleNotice({ trouble, onRetry, onDismiss }: Props) {
  return (
    // Exists before its text; otherwise screen readers would not read it.
    <div role="alert">
      {trouble && (
        <Notice tone="waiting" line="above" text={trouble.text}>
          {trouble.remedy === "sign-in" && (
            <a href={signInAddress({ notice: "ended", next: window.location.pathname })}>Sign in</a>
          )}
          {trouble.remedy === "retry" && (
            <Action onClick={onRetry}>Try again</Action>
          )}
          <Action onClick={onDismiss}>Dismiss</Action>
        </Notice>
      )}
    </div>
  );
}
