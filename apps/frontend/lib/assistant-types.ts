import type { ApiError } from "./problem";

/** The shapes of `/api/v1/assistant`. Its events are no part of OpenAPI, so they are told here. */

export interface AssistantMessage {
  id: string;
  role: "user" | "assistant";
  text: string;
  created_at: string;
  /** Ids of the todos that were changed for it. */
  touched: string[];
}

export interface AssistantState {
  /** False: no key is set, so every question would be refused. */
  available: boolean;
  model: string | null;
  /** Newest last. */
  messages: AssistantMessage[];
}

export interface Confirmation {
  id: string;
  question: string;
  todos: { id: string; title: string }[];
  expires_at: string;
}

export type AssistantEvent =
  | { type: "text"; delta: string }
  | { type: "tool"; name: string; touched: string[] }
  | { type: "confirmation"; confirmation: Confirmation }
  | { type: "error"; error: ApiError }
  | { type: "done" };
