import type { Snapshot } from "@/lib/assistant/assistant-store";
import { Loading } from "@/components/empty";
import { Spark } from "@/components/icons";
import styles from "./welcome.module.css";

const IDEAS = [
  "What should I do first?",
  "Add “Buy milk” and “Call the dentist”",
  "Which todos are completed?",
];

interface Props {
  status: Snapshot["status"];
  onAsk: (text: string) => void;
  /** Checks whether a key is configured now. */
  onCheck: () => void;
}

const HEADS = {
  // TroubleNotice shows the error and the retry button.
  failed: "The conversation could not be loaded",
  off: "The assistant is not set up",
  ready: "What can I do for your list?",
};

export function Welcome({ status, onAsk, onCheck }: Props) {
  if (status === "loading") return <Loading />;
  return (
    <div className={styles.welcome}>
      <span className={styles.mark} data-off={status === "ready" ? undefined : "true"}>
        <Spark />
      </span>
      <p className={styles.head}>{HEADS[status]}</p>
      {status === "off" && (
        <>
          <p>
            It needs an API key: set <code>OPENAI_API_KEY</code> in <code>.env</code> and deploy again. Your todos work
            without it.
          </p>
          <button type="button" className={styles.idea} onClick={onCheck}>
            Check again
          </button>
        </>
      )}
      {status === "ready" && (
        <>
          <p>I add, change, complete and delete todos. I ask before I delete or rename several.</p>
          <ul className={styles.ideas} aria-label="Ideas">
            {IDEAS.map((idea) => (
              <li key={idea}>
                <button type="button" className={styles.idea} onClick={() => { onAsk(idea); }}>
                  {idea}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
