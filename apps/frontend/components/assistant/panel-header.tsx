import { type RefObject, useRef, useState } from "react";
import { Bin, Cross, Spark } from "@/components/icons";
import { Notice } from "@/components/notice";
import styles from "./panel-header.module.css";

interface Props {
  heading: RefObject<HTMLHeadingElement | null>;
  model: string | null;
  /** There is a conversation, and no request is running. */
  forgettable: boolean;
  onForget: () => void;
  onClose: () => void;
}

export function PanelHeader({ heading, model, forgettable, onForget, onClose }: Props) {
  const [asking, setAsking] = useState(false);
  const bin = useRef<HTMLButtonElement>(null);
  const sure = asking && forgettable;
  return (
    <>
      <header className={styles.header}>
        <span className={styles.mark}>
          <Spark />
        </span>
        <span className={styles.names}>
          <h2 ref={heading} id="assistant-heading" className={styles.title} tabIndex={-1}>
            Assistant
          </h2>
          {model && (
            <span className={styles.model}>
              <span className="visually-hidden">Model: </span>
              {model}
            </span>
          )}
        </span>
        <button
          ref={bin}
          type="button"
          className={styles.action}
          hidden={!forgettable}
          aria-label="Forget this conversation"
          title="Forget this conversation"
          aria-expanded={sure}
          onClick={() => { setAsking(!asking); }}
        >
          <Bin />
        </button>
        <button type="button" className={styles.action} aria-label="Close the assistant" title="Close" onClick={onClose}>
          <Cross />
        </button>
      </header>
      {sure && (
        <div role="group" aria-label="Forget this conversation?">
          <Notice tone="refused" line="below" text="Forget this conversation? Your todos stay.">
            <button
              type="button"
              // The user has just opened this with a button.
              autoFocus
              onClick={() => {
                setAsking(false);
                onForget();
              }}
            >
              Forget
            </button>
            <button
              type="button"
              onClick={() => {
                setAsking(false);
                bin.current?.focus();
              }}
            >
              Keep
            </button>
          </Notice>
        </div>
      )}
    </>
  );
}
