import type { EventSourceMessage } from "eventsource-parser";
import type { Confirmation } from "@/lib/api/api-types";
import type { AssistantEvent } from "./assistant-types";
import { ApiError } from "@/lib/api/problem";

/**
 * What an event says, checked: it comes from another program, perhaps of another release.
 *
 * @returns undefined for events unknown here, which a later backend may send.
 * @throws ApiError for a known event that cannot be read.
 */
export function readEvent({ event = "message", data }: EventSourceMessage): AssistantEvent | undefined {
  if (!Object.hasOwn(READERS, event)) return undefined;
  try {
    return READERS[event as keyof typeof READERS](JSON.parse(data) as unknown);
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    throw unreadable(event);
  }
}

const READERS: Record<AssistantEvent["type"], (data: unknown) => AssistantEvent> = {
  text: (data) => ({ type: "text", delta: string(fields(data).delta) }),
  tool: (data) => {
    const { name, touched } = fields(data);
    return { type: "tool", name: string(name), touched: list(touched).map(string) };
  },
  confirmation: (data) => ({ type: "confirmation", confirmation: confirmation(fields(data)) }),
  error: (data) => {
    const { status, detail, code, retry_after: seconds } = fields(data);
    const error = new ApiError(
      typeof detail === "string" ? detail : "The assistant failed.",
      typeof status === "number" ? status : 500,
      // No header can carry it in the midst of a stream.
      typeof seconds === "number" ? seconds * 1000 : undefined,
      typeof code === "string" ? { code } : {},
    );
    return { type: "error", error };
  },
  done: () => ({ type: "done" }),
};

function confirmation({ id, question, todos, expires_at }: Record<string, unknown>): Confirmation {
  return {
    id: string(id),
    question: string(question),
    todos: list(todos).map((todo) => {
      const { id, title, new_title: fresh, completed } = fields(todo);
      return {
        id: string(id),
        title: string(title),
        new_title: typeof fresh === "string" ? fresh : null,
        completed: typeof completed === "boolean" ? completed : null,
      };
    }),
    expires_at: string(expires_at),
  };
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw unreadable("object");
  return value as Record<string, unknown>;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw unreadable("list");
  return value;
}

function string(value: unknown): string {
  if (typeof value !== "string") throw unreadable("text");
  return value;
}

const unreadable = (what: string) =>
  new ApiError(`Unreadable answer from the server (${what} expected)`, 502);
