/**
 * Server-sent events out of a body that `fetch` reads. `EventSource` cannot do it: it sends no POST,
 * and reconnects by itself, which here would ask the same thing twice.
 */

export interface SseEvent {
  /** "message" where the stream names none. */
  event: string;
  data: string;
}

/** In characters; more than any event of ours by far, so a stream without an end fills no memory. */
export const EVENT_MAX = 1_000_000;

/** Takes text in any pieces, gives events; follows the HTML standard's "event stream" format. */
export class SseParser {
  #line = "";
  /** The last piece ended in CR: if LF comes next, it belongs to that CR. */
  #afterReturn = false;
  #event = "";
  #data: string[] = [];
  #size = 0;

  /** @throws RangeError if an event is longer than EVENT_MAX. */
  feed(text: string): SseEvent[] {
    const found: SseEvent[] = [];
    let rest = this.#afterReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text !== "") this.#afterReturn = text.endsWith("\r");
    for (;;) {
      const end = /\r\n|\r|\n/.exec(rest);
      if (!end) break;
      const event = this.#take(this.#line + rest.slice(0, end.index));
      if (event) found.push(event);
      this.#line = "";
      rest = rest.slice(end.index + end[0].length);
    }
    this.#line += rest;
    this.#bound(this.#line.length);
    return found;
  }

  /** One whole line; a blank one ends the event. */
  #take(line: string): SseEvent | undefined {
    if (line === "") {
      const event = { event: this.#event || "message", data: this.#data.join("\n") };
      const complete = this.#data.length > 0;
      this.#event = "";
      this.#data = [];
      this.#size = 0;
      return complete ? event : undefined;
    }
    const colon = line.indexOf(":");
    // A comment, such as what keeps the connection open.
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    else if (field === "data") {
      this.#bound(value.length);
      this.#size += value.length;
      this.#data.push(value);
    }
    // `id` and `retry` serve reconnecting, which nobody does here.
    return undefined;
  }

  #bound(more: number): void {
    if (this.#size + more > EVENT_MAX) throw new RangeError(`An event exceeds ${EVENT_MAX} characters`);
  }
}

/**
 * The events of a body; what stands unfinished at its end is no event. Whoever stops reading ends
 * the request with it. `onLife` is called for every piece, comments included.
 */
export async function* sseEvents(
  body: ReadableStream<Uint8Array>,
  onLife?: () => void,
): AsyncGenerator<SseEvent, void> {
  const reader = body.getReader();
  // Keeps the bytes of a character that two pieces share, and drops a byte order mark.
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onLife?.();
      yield* parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Also rejects where the body has failed already, which has been thrown above.
    await reader.cancel().catch(() => undefined);
  }
}
