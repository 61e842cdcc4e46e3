import { type Api, ApiError, createApi } from "@/lib/api/api";
import type { Conversation } from "@/lib/api/api-types";
import { readEvent } from "./assistant-events";
import type { AssistantEvent } from "./assistant-types";
import { sseEvents } from "@/lib/api/sse";

/** What the assistant says and does, bit by bit; ends with `done`, or by throwing. */
export type Answer = AsyncGenerator<Exclude<AssistantEvent, { type: "error" }>, void>;

export interface AssistantApi {
  state(): Promise<Conversation>;
  /** `resume`: goes on with the answer to the last message, which was cut. */
  ask(message: string, resume: boolean, signal: AbortSignal): Answer;
  confirm(id: string, approve: boolean, signal: AbortSignal): Answer;
  forget(): Promise<void>;
}

/** The answer did not end as answers do: code of the ApiError that says so. */
export const CUT = "cut";

/** In ms. A stream that gives no sign of life for so long is dead; the backend gives one every 15 s. */
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
      // A backend of the release before knows nothing of `confirmation`.
      const { available, messages, model = null, confirmation = null } = state;
      return { available, messages, model, confirmation };
    },
    async *ask(message, resume, stop) {
      try {
        yield* answer("/assistant", { message, ...(resume && { resume }) }, stop);
      } catch (cause) {
        // A backend of the release before refuses `resume`.
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
