import { memo } from "react";
import type { ChatMessage } from "@/lib/assistant/assistant-messages";
import { AnswerText } from "./answer-text";
import styles from "./message.module.css";
import { TouchedTodos } from "./touched-todos";

interface Props {
  message: ChatMessage;
  titles: ReadonlyMap<string, string>;
  onReveal: (id: string) => void;
}

/** Memoized, so that a new token renders only the newest message again. */
export const Message = memo(function Message({ message, titles, onReveal }: Props) {
  const { role, text, touched, state } = message;
  if (role === "user") {
    return (
      <li className={styles.question} dir="auto">
        <span className="visually-hidden">You: </span>
        {text}
      </li>
    );
  }
  return (
    <li className={styles.answer} data-state={state}>
      <span className="visually-hidden">Assistant: </span>
      <AnswerText text={text} />
      <TouchedTodos touched={touched} titles={titles} onReveal={onReveal} />
      {state === "stopped" && <p className={styles.note}>Stopped.</p>}
      {state === "cut" && <p className={styles.note}>The answer ends here.</p>}
    </li>
  );
});
