import { type Api, ApiError, createApi } from "@/lib/api/api";
import type { Conversation } from "@/lib/api/api-types";
import { readEvent } from "./assistant-events";
import type { AssistantEvent } from "./assistant-types";
import { sseEvents } from "@/lib/api/sse";

/** Streams the assistant's events; ends with `done`, or throws. */
export type Answer = AsyncGenerator<Exclude<AssistantEvent, { type: "error" }>, void>;

export interface AssistantApi {
  state(): Promise<Conversation>;
  /** `resume`: continues the cut answer to the last message. */
  ask(message: string, resume: boolean, signal: AbortSignal): Answer;
  confirm(id: string, approve: boolean, signal: AbortSignal): Answer;
  forget(): Promise<void>;
}

/** Code of the ApiError for an answer without a regular end. */
export const CUT = "cut";

/** In ms. A stream is dead after this time without data; the backend sends some every 15 s. */
const SILENCE = 45_000;

type Transport = Pick<Api, "call" | "stream">;

export function assistantApi(transport: Transport = createApi()): AssistantApi {
  async function* answer(path: string, body: object, stop: AbortSignal): Answer {
    const quiet = new AbortController();
    const watch = () => setTimeout(() => { quiet.abort(); }, SILENCE);
    let timer = watch();
    try {
      const stream = await transport.stream(path, body, AbortSignal.any([stop, quiet.signal]));
      const alive = () => {
        clearTimeout(timer);
        timer = watch();
      };
      for await (const raw of sseEvents(stream, alive)) {
        const event = readEvent(raw);
        if (!event) continue;
        if (event.type === "error") throw event.error;
        yield event;
        if (event.type === "done") return;
      }
      throw new ApiError("The answer broke off", 0, undefined, { code: CUT });
    } catch (cause) {
      if (quiet.signal.aborted) throw new ApiError("The server went quiet", 0, undefined, { code: CUT });
      if (cause instanceof ApiError) throw cause;
      throw new ApiError("The answer broke off", 0, undefined, { code: CUT });
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    async state() {
      const state = (await transport.call("GET", "/assistant")) as Partial<Conversation> | undefined;
      if (typeof state?.available !== "boolean" || !Array.isArray(state.messages)) {
        throw new ApiError("The server's answer does not describe the assistant", 502);
      }
      // A backend of the previous release does not know `confirmation`.
      const { available, messages, model = null, confirmation = null } = state;
      return { available, messages, model, confirmation };
    },
    async *ask(message, resume, stop) {
      try {
        yield* answer("/assistant", { message, ...(resume && { resume }) }, stop);
      } catch (cause) {
        // A backend of the previous release rejects `resume`.
        if (!resume || !(cause instanceof ApiError) || cause.status !== 422) throw cause;
        yield* answer("/assistant", { message }, stop);
      }
    },
    confirm: (id, approve, stop) =>
      answer(`/assistant/confirmations/${encodeURIComponent(id)}`, { approve }, stop),
    async forget() {
      await transport.call("DELETE", "/assistant");
    },
  };
}
