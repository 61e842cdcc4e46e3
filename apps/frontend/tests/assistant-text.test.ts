import { describe, expect, it } from "vitest";
import { deedsOf, merge } from "@/lib/assistant/assistant-messages";
import { blocksOf } from "@/lib/assistant/assistant-text";

const paragraph = (...lines: string[]) => ({ kind: "paragraph", lines });
const bullets = (...items: string[]) => ({ kind: "list", ordered: false, start: 1, items });
const numbers = (start: number, ...items: string[]) => ({ kind: "list", ordered: true, start, items });

describe("an answer's text", () => {
  it("keeps its lines and paragraphs", () => {
    expect(blocksOf("One\ntwo\r\n\r\nthree\n")).toEqual([paragraph("One", "two"), paragraph("three")]);
    expect(blocksOf("")).toEqual([]);
  });

  it("has simple lists", () => {
    expect(blocksOf("Left:\n- Milk\n* Bread\n• Eggs\nThat is all.")).toEqual([
      paragraph("Left:"),
      bullets("Milk", "Bread", "Eggs"),
      paragraph("That is all."),
    ]);
    expect(blocksOf("3. c\n4) d\n\n5. e\n- x")).toEqual([numbers(3, "c", "d", "e"), bullets("x")]);
  });

  it("takes nothing else for a list", () => {
    for (const text of ["-5 degrees", "3.14 is pi", "**bold** words", "- ", "12345. too many"]) {
      expect(blocksOf(text)).toEqual([paragraph(text.trimEnd())]);
    }
  });

  it("leaves markup as it was written", () => {
    const text = "<img src=x onerror=alert(1)> & <b>bold</b>";
    expect(blocksOf(text)).toEqual([paragraph(text)]);
  });
});

describe("what an answer did", () => {
  it("names each todo once, by what was done to it last", () => {
    const touched = merge(
      [{ id: "1", tool: "add_todo" }, { id: "2", tool: "update_todo", title: "Old" }],
      [{ id: "1", tool: "complete_todo" }, { id: "3", tool: "delete_todos", title: "Gone" }],
    );
    expect(deedsOf(touched, new Map([["1", "Milk"], ["2", "New"]]))).toEqual([
      { verb: "Completed", todos: [{ id: "1", title: "Milk" }] },
      { verb: "Changed", todos: [{ id: "2", title: "New" }] },
      { verb: "Deleted", todos: [{ id: "3", title: "Gone" }] },
    ]);
  });

  it("is only called a change where the history does not say more", () => {
    expect(deedsOf([{ id: "1" }], new Map())).toEqual([
      { verb: "Changed", todos: [{ id: "1", title: undefined }] },
    ]);
  });
});
