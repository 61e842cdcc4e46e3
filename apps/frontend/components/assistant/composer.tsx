import type { KeyboardEvent, RefObject } from "react";
import { MESSAGE_MAX } from "@/lib/assistant/assistant-store";
import styles from "./composer.module.css";
import { Send, Stop } from "@/components/icons";

const COUNTED = MESSAGE_MAX - 200;

interface Props {
  field: RefObject<HTMLTextAreaElement | null>;
  draft: string;
  busy: boolean;
  ready: boolean;
  onWrite: (text: string) => void;
  onSend: () => boolean;
  onStop: () => void;
}

export function Composer({ field, draft, busy, ready, onWrite, onSend, onStop }: Props) {
  const onKeyDown = (event: KeyboardEvent) => {
    // Ignores the Enter that ends an IME composition (Japanese, Chinese).
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    onSend();
  };
  return (
    <form
      className={styles.composer}
      onSubmit={(event) => {
        event.preventDefault();
        onSend();
        field.current?.focus();
      }}
    >
      <label htmlFor="assistant-message" className="visually-hidden">
        Message to the assistant
      </label>
      <textarea
        ref={field}
        id="assistant-message"
        className={styles.field}
        rows={1}
        value={draft}
        placeholder="Ask about your todos…"
        maxLength={MESSAGE_MAX}
        dir="auto"
        autoComplete="off"
        enterKeyHint="send"
        aria-describedby="assistant-message-hint"
        onChange={(event) => { onWrite(event.currentTarget.value); }}
        onKeyDown={onKeyDown}
      />
      <span id="assistant-message-hint" className={draft.length > COUNTED ? styles.left : "visually-hidden"}>
        {draft.length > COUNTED ? `${MESSAGE_MAX - draft.length} left` : "Enter sends. Shift+Enter starts a new line."}
      </span>
      {busy ? (
        <button key="stop" type="button" className={styles.button} aria-label="Stop" title="Stop" onClick={() => {
          onStop();
          field.current?.focus();
        }}>
          <Stop />
        </button>
      ) : (
        <button key="send" type="submit" className={styles.button} aria-label="Send" title="Send" disabled={!ready || !draft.trim()}>
          <Send />
        </button>
      )}
    </form>
  );
}
