import type { ComponentProps, ReactNode } from "react";
import { keepFocusNear } from "@/lib/page/focus";
import styles from "./notice.module.css";

interface Props {
  tone: "waiting" | "refused";
  text: string;
  /** The side with a separating line; without it the notice stands alone. */
  line?: "above" | "below";
  children: ReactNode;
}

const keepFocus = (notice: HTMLDivElement) => () => { keepFocusNear(notice); };

export function Notice({ tone, text, line, children }: Props) {
  return (
    <div ref={keepFocus} className={styles.notice} data-tone={tone} data-line={line}>
      <p>{text}</p>
      <div className={styles.actions}>{children}</div>
    </div>
  );
}

export function Action(props: ComponentProps<"button">) {
  return <button type="button" {...props} />;
}
