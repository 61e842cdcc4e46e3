import { type ReactNode, useLayoutEffect, useRef } from "react";
import { keepFocusNear } from "@/lib/focus";
import styles from "./notice.module.css";

interface Props {
  tone: "waiting" | "refused";
  text: string;
  /** Where a line parts it from what is there; without, it stands by itself. */
  line?: "above" | "below";
  /** What can be done about it: buttons and links. */
  children: ReactNode;
}

/** One sentence across, in the list and in the assistant alike. */
export function Notice({ tone, text, line, children }: Props) {
  const notice = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const shown = notice.current;
    return () => { keepFocusNear(shown); };
  }, []);
  return (
    <div ref={notice} className={styles.notice} data-tone={tone} data-line={line}>
      <p>{text}</p>
      <div className={styles.actions}>{children}</div>
    </div>
  );
}
