import { createParser, type EventSourceMessage } from "eventsource-parser";

/** In characters; more than any event of ours by far, so a stream without an end fills no memory. */
export const EVENT_MAX = 1_000_000;

/**
 * The server-sent events of a body that `fetch` reads; `EventSource` sends no POST, and reconnects by itself, which here
 * would ask the same thing twice. Whoever stops reading ends the request. `onLife` is called for every piece, comments
 * included.
 *
 * @throws ParseError if an event is longer than EVENT_MAX.
 */
export async function* sseEvents(
  body: ReadableStream<Uint8Array>,
  onLife?: () => void,
): AsyncGenerator<EventSourceMessage, void> {
  const reader = body.getReader();
  // Keeps the bytes of a character that two pieces share, and drops a byte order mark.
  const decoder = new TextDecoder();
  const events: EventSourceMessage[] = [];
  const parser = createParser({
    maxBufferSize: EVENT_MAX,
    onEvent: (event) => events.push(event),
    onError: (error) => { if (error.type === "max-buffer-size-exceeded") throw error; },
  });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onLife?.();
      parser.feed(decoder.decode(value, { stream: true }));
      yield* events.splice(0);
    }
  } finally {
    // Also rejects where the body has failed already, which has been thrown above.
    await reader.cancel().catch(() => undefined);
  }
}
