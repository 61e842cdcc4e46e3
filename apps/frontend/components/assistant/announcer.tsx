import { type ChatMessage, deedsOf } from "@/lib/assistant/assistant-messages";
import type { Snapshot } from "@/lib/assistant/assistant-store";

interface Props {
  messages: readonly ChatMessage[];
  phase: Snapshot["phase"];
  wait: string;
  titles: ReadonlyMap<string, string>;
}

/**
 * Tells screen readers that the assistant is working, then its whole answer. The visible text is not a
 * live region, because screen readers would read each token.
 */
export function Announcer({ messages, phase, wait, titles }: Props) {
  const last = messages.at(-1);
  let text = "";
  if (phase !== "idle") text = wait || "The assistant is at work";
  // Only answers of this page, not those of an old conversation.
  else if (last?.role === "assistant" && last.key.startsWith("new-")) {
    const deeds = deedsOf(last.touched, titles).map(({ verb, todos }) => {
      const names = todos.flatMap(({ title }) => (title === undefined ? [] : [title]));
      return `${verb}: ${names.length > 0 ? names.join(", ") : String(todos.length)}.`;
    });
    const end = last.state === "stopped" ? ["Stopped."] : last.state === "cut" ? ["The answer broke off."] : [];
    text = [last.text, ...deeds, ...end].join(" ");
  }
  return (
    <p className="visually-hidden" role="status">
      {text}
    </p>
  );
}
