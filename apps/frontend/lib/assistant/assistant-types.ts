import type { Confirmation } from "@/lib/api/api-types";
import type { ApiError } from "@/lib/api/problem";

/**
 * The events of an answer. OpenAPI has their names and the data of one of them (`Confirmation`). It
 * cannot express that the data depends on the name, so this file does.
 */
export type AssistantEvent =
  | { type: "text"; delta: string }
  | { type: "tool"; name: string; touched: string[] }
  | { type: "confirmation"; confirmation: Confirmation }
  | { type: "error"; error: ApiError }
  | { type: "done" };
