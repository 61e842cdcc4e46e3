import { formFailureText, noticeText, OTHER_USER } from "@/lib/page/notices";
import type { Refusal, Snapshot, Trouble } from "@/lib/todos/todo-store";
import { Notice } from "./notice";

interface Props {
  loaded: boolean;
  trouble: Trouble | null;
  undoable: string | null;
  refusals: Snapshot["refusals"];
  /** Left in the address by app/form: "refused" or "unavailable". */
  formFailure: string | null;
  onUndo: () => void;
  onRetry: () => void;
  onDiscard: () => void;
  /** null: what a plain form could not do. */
  onDismiss: (id: number | null) => void;
  onSignIn: () => void;
}

export function Notices(props: Props) {
  const { loaded, trouble, undoable, refusals, formFailure, onUndo, onRetry, onDiscard, onDismiss, onSignIn } = props;
  const formText = formFailureText(formFailure);
  const alerts: readonly (Omit<Refusal, "id"> & { id: number | null })[] =
    formText === undefined ? refusals : [{ id: null, text: formText }, ...refusals];
  return (
    <>
      {/* Both regions are there before their text is: otherwise it would not be read out. */}
      <div role="status">
        {(trouble !== null || !loaded) && (
          <Notice tone="waiting" line="below" text={troubleText(trouble, loaded)}>
            {trouble?.kind === "signed-out" && (
              <button type="button" onClick={onSignIn}>
                Sign in
              </button>
            )}
            {trouble?.kind !== "retrying" && trouble?.kind !== "signed-out" && (
              <button type="button" onClick={onRetry}>
                {trouble?.kind === "stalled" ? "Try again" : "Try now"}
              </button>
            )}
            {trouble?.kind === "stalled" && trouble.unsaved > 0 && (
              <button type="button" onClick={onDiscard}>
                Discard changes
              </button>
            )}
          </Notice>
        )}
        {undoable !== null && (
          <Notice tone="waiting" line="below" text={undoable}>
            <button type="button" aria-keyshortcuts="Control+Z Meta+Z" onClick={onUndo}>
              Undo
            </button>
          </Notice>
        )}
      </div>
      <div role="alert">
        {alerts.map(({ id, text, overwrite }) => (
          <Notice key={id} tone="refused" line="below" text={text}>
            {overwrite && (
              <button type="button" onClick={overwrite}>
                Use my title
              </button>
            )}
            <button type="button" onClick={() => { onDismiss(id); }}>
              Dismiss
            </button>
          </Notice>
        ))}
      </div>
    </>
  );
}

function troubleText(trouble: Trouble | null, loaded: boolean): string {
  if (trouble?.kind === "retrying") return "Trying again…";
  const unsaved = trouble?.unsaved ?? 0;
  const changes = unsaved === 1 ? "One change is" : `${String(unsaved)} changes are`;
  if (trouble?.kind === "signed-out") {
    const kept = unsaved > 0 ? ` ${changes} kept here and sent then.` : "";
    return `${trouble.otherUser ? OTHER_USER : noticeText("ended") ?? ""}${kept}`;
  }
  const who = trouble?.kind === "offline" ? "You are offline." : "The server is not answering.";
  if (!loaded) return `${who} Your todos appear here as soon as it works again.`;
  if (unsaved === 0) return `${who} This list may be out of date.`;
  if (trouble?.kind === "stalled") return `The server is still not answering. ${changes} not saved.`;
  return `${who} ${changes} kept here and sent as soon as it works again.`;
}
