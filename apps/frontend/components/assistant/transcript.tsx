import { type ReactNode, useEffect, useRef } from "react";
import type { ChatMessage } from "@/lib/assistant/assistant-messages";
import { Message } from "./message";
import styles from "./transcript.module.css";

/** Distance to the end that counts as the end, in pixels. */
const NEAR = 48;

interface Props {
  messages: readonly ChatMessage[];
  titles: ReadonlyMap<string, string>;
  waiting: boolean;
  wait: string;
  onReveal: (id: string) => void;
  children: ReactNode;
}

/** Follows new text, unless the user has scrolled back. */
export function Transcript({ messages, titles, waiting, wait, onReveal, children }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const count = useRef(0);

  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    // Shows the user's new message.
    const asked = messages.length > count.current && messages.at(-1)?.role === "user";
    count.current = messages.length;
    if (asked) following.current = true;
    if (following.current) element.scrollTop = element.scrollHeight;
  });

  const last = messages.at(-1);
  const thinking = waiting || (last?.state === "streaming" && last.text === "");
  return (
    <div
      ref={scroller}
      className={styles.scroller}
      role="region"
      aria-label="Conversation"
      // Scrollable, so it must be focusable.
      tabIndex={0}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        following.current = scrollHeight - scrollTop - clientHeight < NEAR;
      }}
    >
      {messages.length > 0 && (
        <ol className={styles.messages} aria-busy={waiting || last?.state === "streaming"}>
          {messages.map((message) => (
            <Message key={message.key} message={message} titles={titles} onReveal={onReveal} />
          ))}
          {thinking && (
            <li className={styles.thinking}>
              <span className="visually-hidden">The assistant is thinking</span>
              <span aria-hidden="true" />
              <span aria-hidden="true" />
              <span aria-hidden="true" />
              {wait && <p>{wait}</p>}
            </li>
          )}
        </ol>
      )}
      {children}
    </div>
  );
}
