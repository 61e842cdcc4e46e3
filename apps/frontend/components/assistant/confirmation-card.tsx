import { useEffect, useRef } from "react";
import type { Confirmation } from "@/lib/api/api-types";
import styles from "./confirmation-card.module.css";

interface Props { confirmation: Confirmation; onAnswer: (approve: boolean) => void }

export function ConfirmationCard({ confirmation, onAnswer }: Props) {
  const { id, question, todos, expires_at: expires } = confirmation;
  const [verb] = question.split(" ");
  const card = useRef<HTMLDivElement>(null);

  useEffect(() => {
    // Focuses the card and no button, so that an Enter meant for the field decides nothing.
    // Only if the focus is in the panel. Does not interrupt a user who works in the list, or who
    // already writes when a question returns after a reload.
    const focused = document.activeElement;
    const writing = focused instanceof HTMLTextAreaElement && focused.value !== "";
    if (!writing && card.current?.closest("dialog")?.contains(focused)) card.current.focus();
  }, []);

  return (
    <div
      ref={card}
      className={styles.card}
      role="group"
      aria-labelledby={`question-${id}`}
      aria-describedby={`expiry-${id}`}
      tabIndex={-1}
    >
      <p id={`question-${id}`} className={styles.question}>
        {question}
      </p>
      <ul className={styles.todos}>
        {todos.map((todo) => (
          <li key={todo.id} dir="auto">
            {todo.title}
            {todo.new_title && (
              <>
                <span aria-hidden="true"> → </span>
                <span className="visually-hidden"> becomes </span>
                {todo.new_title}
                {typeof todo.completed === "boolean" && (todo.completed ? " (completed)" : " (open again)")}
              </>
            )}
          </li>
        ))}
      </ul>
      <div className={styles.actions}>
        <button type="button" className={styles.grave} onClick={() => { onAnswer(true); }}>
          {verb} {todos.length === 1 ? "it" : `${todos.length} todos`}
        </button>
        <button type="button" className={styles.calm} onClick={() => { onAnswer(false); }}>
          Keep {todos.length === 1 ? "it" : "them"}
        </button>
        <span id={`expiry-${id}`} className={styles.expiry}>
          {expiry(expires)}
        </span>
      </div>
    </div>
  );
}

function expiry(expires: string): string {
  const time = new Date(expires);
  if (Number.isNaN(time.getTime())) return "Nothing changes until you confirm.";
  const clock = time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return `Open until ${clock}`;
}
