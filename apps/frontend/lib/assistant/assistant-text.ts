/**
 * Splits an answer into blocks of plain text. Recognises only line breaks and lists; everything else,
 * including tags, is shown literally.
 */
export type Block =
  | { kind: "paragraph"; lines: string[] }
  | { kind: "list"; ordered: boolean; start: number; items: string[] };

const ITEM = /^\s{0,6}(?:[-*•]|(\d{1,4})[.)])\s+(\S.*)$/;

export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  /** The block that the next line continues; none after a blank line. */
  let open: Block | undefined;
  for (const line of text.split(/\r\n|\r|\n/)) {
    if (line.trim() === "") {
      // Models often write blank lines between list items.
      if (open?.kind === "paragraph") open = undefined;
      continue;
    }
    const [, number, item] = ITEM.exec(line) ?? [];
    if (item !== undefined) {
      const ordered = number !== undefined;
      if (open?.kind !== "list" || open.ordered !== ordered) {
        open = { kind: "list", ordered, start: Number(number ?? 1), items: [] };
        blocks.push(open);
      }
      open.items.push(item.trimEnd());
    } else if (open?.kind === "paragraph") {
      open.lines.push(line.trimEnd());
    } else {
      open = { kind: "paragraph", lines: [line.trimEnd()] };
      blocks.push(open);
    }
  }
  return blocks;
}
