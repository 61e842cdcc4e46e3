/**
 * An answer as blocks of plain text. Only line breaks and lists are recognised: whatever else the
 * model writes, tags included, is shown as it was written.
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
      // Models like blank lines between the items of one list.
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
