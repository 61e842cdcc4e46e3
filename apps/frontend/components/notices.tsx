import { AWAY, formFailureText, noticeText, OFFLINE, OTHER_USER } from "@/lib/page/notices";
import type { Refusal, Snapshot, TodoStore, Trouble } from "@/lib/todos/todo-store";
import { Action, Notice } from "./notice";

interface Props {
  store: Pick<TodoStore, "retry" | "discard" | "dismiss">;
  snapshot: Snapshot;
  formFailure: string | null;
  onUndo: () => void;
  onSeen: () => void;
  onSignIn: () => void;
}

export function Notices({ store, snapshot, formFailure, onUndo, onSeen, onSignIn }: Props) {
  const { loaded, trouble, undoable, refusals } = snapshot;
  const formText = formFailureText(formFailure);
  const alerts: readonly (Omit<Refusal, "id"> & { id: number | null })[] =
    formText === undefined ? refusals : [{ id: null, text: formText }, ...refusals];
  return (
    <>
      {/* Both regions exist before their text; otherwise screen readers would not read it. */}
      <div role="status">
        {(trouble !== null || !loaded) && (
          <Notice tone="waiting" line="below" text={troubleText(trouble, loaded)}>
            {trouble?.kind === "signed-out" && <Action onClick={onSignIn}>Sign in</Action>}
            {trouble?.kind !== "retrying" && trouble?.kind !== "signed-out" && (
              <Action onClick={() => { store.retry(); }}>{trouble?.kind === "stalled" ? "Try again" : "Try now"}</Action>
            )}
            {trouble?.kind === "stalled" && trouble.unsaved > 0 && (
              <Action onClick={() => { store.discard(); }}>Discard changes</Action>
            )}
          </Notice>
        )}
        {undoable !== null && (
          <Notice tone="waiting" line="below" text={undoable}>
            <Action aria-keyshortcuts="Control+Z Meta+Z" onClick={onUndo}>Undo</Action>
          </Notice>
        )}
      </div>
      <div role="alert">
        {alerts.map(({ id, text, overwrite }) => (
          <Notice key={id} tone="refused" line="below" text={text}>
            {overwrite && <Action onClick={overwrite}>Use my title</Action>}
            <Action onClick={() => { if (id === null) onSeen(); else store.dismiss(id); }}>Dismiss</Action>
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
  const who = trouble?.kind === "offline" ? OFFLINE : AWAY;
  if (!loaded) return `${who} Your todos appear here as soon as it works again.`;
  if (unsaved === 0) return `${who} This list may be out of date.`;
  if (trouble?.kind === "stalled") return `The server is still not answering. ${changes} not saved.`;
  return `${who} ${changes} kept here and sent as soon as it works again.`;
}
