import type { EventSourceMessage } from "eventsource-parser";
import { describe, expect, it } from "vitest";
import { EVENT_MAX, sseEvents } from "@/lib/api/sse";

const encoder = new TextEncoder();
const parse = (text: string) => read(encoder.encode(text));

/** Returns a body whose chunks end at these positions. */
async function read(bytes: Uint8Array, ...cuts: number[]): Promise<EventSourceMessage[]> {
  const ends = [...cuts, bytes.length];
  let at = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const end = ends.shift();
      if (end === undefined) {
        controller.close();
        return;
      }
      controller.enqueue(bytes.slice(at, end));
      at = end;
    },
  });
  const found: EventSourceMessage[] = [];
  for await (const event of sseEvents(body)) found.push(event);
  return found;
}

const STREAM = [
  "\uFEFF: hello\r\n\r\n",
  'event: text\r\ndata: {"delta":"Grüße, 世界 👋🏽"}\r\n\r\n',
  ": keep-alive\n\n",
  "event:tool\rdata:one\rdata: two\r\r",
  "retry: 5\nid: 7\nunknown: x\nevent\ndata\n\n",
  "data: last\n\n",
].join("");
const EVENTS = [
  { event: "text", data: '{"delta":"Grüße, 世界 👋🏽"}' },
  { event: "tool", data: "one\ntwo" },
  { data: "" },
  { data: "last" },
];

describe("server-sent events", () => {
  it("are read whatever ends the lines: CR, LF or both", async () => {
    for (const end of ["\n", "\r", "\r\n"]) {
      expect(await parse(["event: a", "data: 1", "", "data: 2", "", ""].join(end))).toEqual([
        { event: "a", data: "1" },
        { data: "2" },
      ]);
    }
  });

  it("are the same wherever the bytes are cut in two, in the midst of a character too", async () => {
    const bytes = encoder.encode(STREAM);
    for (let cut = 0; cut <= bytes.length; cut += 1) expect(await read(bytes, cut)).toMatchObject(EVENTS);
  });

  it("are the same byte by byte", async () => {
    const bytes = encoder.encode(STREAM);
    expect(await read(bytes, ...bytes.keys())).toMatchObject(EVENTS);
  });

  it("keep what looks like a field within the data, and one blank after the colon is no data", async () => {
    expect(await parse("data:  a: b:c\n\n")).toEqual([{ data: " a: b:c" }]);
  });

  it("have to be complete: what is unfinished at the end is no event", async () => {
    expect(await read(encoder.encode("data: a\n\ndata: half\n"))).toEqual([{ data: "a" }]);
    expect(await parse("event: lonely\n\n")).toEqual([]);
  });

  it("do not carry a name over to the next", async () => {
    expect(await parse("event: a\n\ndata: 1\n\n")).toEqual([{ data: "1" }]);
  });

  it("have a bound, with and without line ends", async () => {
    await expect(parse("data: ".padEnd(EVENT_MAX + 1, "x"))).rejects.toThrow(/maxBufferSize|exceed/);
    await expect(parse(`data: ${"x".repeat(999)}\n`.repeat(1_100))).rejects.toThrow(/exceed/);
    // Many short events are not one endless event.
    expect(await parse(`data: ${"x".repeat(999)}\n\n`.repeat(1_100))).toHaveLength(1_100);
  });

  it("end the request when nobody reads on, and pass on why it broke", async () => {
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => { controller.enqueue(encoder.encode("data: again\n\n")); },
      cancel: () => { cancelled = true; },
    });
    for await (const event of sseEvents(endless)) if (event.data) break;
    expect(cancelled).toBe(true);

    const broken = new ReadableStream<Uint8Array>({ start: (controller) => { controller.error(new Error("cut")); } });
    await expect(sseEvents(broken).next()).rejects.toThrow("cut");
  });
});
