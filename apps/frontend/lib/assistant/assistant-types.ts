import type { Confirmation } from "@/lib/api/api-types";
import type { ApiError } from "@/lib/api/problem";

/**
 * The events of an answer. OpenAPI has their names, and what one of them carries (`Confirmation`); it
 * has no way to say that the data of an event stream depends on the name, so that is told here.
 */
export type AssistantEvent =
  | { type: "text"; delta: string }
  | { type: "tool"; name: string; touched: string[] }
  | { type: "confirmation"; confirmation: Confirmation }
  | { type: "error"; error: ApiError }
  | { type: "done" };
