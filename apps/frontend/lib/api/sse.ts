import { createParser, type EventSourceMessage } from "eventsource-parser";

/** In characters, far more than our events have. Protects the memory from an endless event. */
export const EVENT_MAX = 1_000_000;

/**
 * Reads the server-sent events of a `fetch` body. `EventSource` cannot send a POST, and its reconnects would repeat the
 * request. The request ends when the reader stops. `onLife` is called for every chunk, including comments.
 *
 * @throws ParseError if an event is longer than EVENT_MAX.
 */
export async function* sseEvents(
  body: ReadableStream<Uint8Array>,
  onLife?: () => void,
): AsyncGenerator<EventSourceMessage, void> {
  const reader = body.getReader();
  // Joins characters split across chunks, and drops a byte order mark.
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
    // Also rejects if the body has failed, which was thrown above.
    await reader.cancel().catch(() => undefined);
  }
}
