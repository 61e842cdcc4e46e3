import { Fragment } from "react";
import { type Block, blocksOf } from "@/lib/assistant/assistant-text";
import styles from "./message.module.css";

/** Only text, never markup, because the output of a model is untrusted. */
export function AnswerText({ text }: { text: string }) {
  return blocksOf(text).map((block, index) => (
    // Blocks are only added at the end.
    <Fragment key={index}>{block.kind === "list" ? list(block) : paragraph(block.lines)}</Fragment>
  ));
}

function paragraph(lines: string[]) {
  return (
    <p className={styles.paragraph} dir="auto">
      {lines.join("\n")}
    </p>
  );
}

function list({ ordered, start, items }: Extract<Block, { kind: "list" }>) {
  const rows = items.map((item, index) => (
    <li key={index} dir="auto">
      {item}
    </li>
  ));
  return ordered ? (
    <ol className={styles.list} start={start}>
      {rows}
    </ol>
  ) : (
    <ul className={styles.list}>{rows}</ul>
  );
}
