import type { EventSourceMessage } from "eventsource-parser";
import type { Confirmation, Problem } from "@/lib/api/api-types";
import type { AssistantEvent } from "./assistant-types";
import { ApiError } from "@/lib/api/problem";

/** The shape of each event's data. Empty values stand for any; fields that older releases lack are optional. */
const SHAPES = {
  text: { delta: "" },
  tool: { name: "", touched: [""] },
  confirmation: { id: "", question: "", todos: [{ id: "", title: "" }], expires_at: "" },
  error: {},
  done: {},
};

/**
 * Validates an event, which may come from another release of the backend.
 *
 * @returns undefined for unknown events, which a newer backend may send.
 * @throws ApiError for a known event that cannot be read.
 */
export function readEvent({ event = "message", data }: EventSourceMessage): AssistantEvent | undefined {
  if (!Object.hasOwn(SHAPES, event)) return undefined;
  const type = event as keyof typeof SHAPES;
  const value = parse(data);
  if (!hasShape(value, SHAPES[type])) throw new ApiError(`Unreadable answer from the server (${type} expected)`, 502);
  switch (type) {
    case "confirmation":
      return { type, confirmation: value as Confirmation };
    case "error":
      return { type, error: errorOf(value as Partial<Problem>) };
    default:
      return { ...(value as object), type } as AssistantEvent;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function hasShape(value: unknown, shape: unknown): boolean {
  if (Array.isArray(shape)) return Array.isArray(value) && value.every((item) => hasShape(item, shape[0]));
  if (typeof shape !== "object" || shape === null) return typeof value === typeof shape;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const fields = new Map(Object.entries(value));
  return Object.entries(shape).every(([name, field]) => hasShape(fields.get(name), field));
}

/** Inside a stream, Retry-After cannot be a header. */
function errorOf({ detail = "The assistant failed.", status = 500, code, retry_after: seconds }: Partial<Problem>): ApiError {
  return new ApiError(detail, status, typeof seconds === "number" ? seconds * 1000 : undefined, code ? { code } : {});
}
