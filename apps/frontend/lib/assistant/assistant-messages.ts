import type { Confirmation, Message } from "@/lib/api/api-types";

export interface Touched {
  id: string;
  /** The tool that changed it; unknown for messages from the history. */
  tool?: string;
  /** The title at that time: a deleted todo cannot be read any more. */
  title?: string;
}

export interface ChatMessage {
  key: string;
  role: "user" | "assistant";
  text: string;
  touched: readonly Touched[];
  /** stopped: by the user; cut: by a failure. */
  state: "done" | "streaming" | "stopped" | "cut";
}

/** `open`: the confirmation shown separately; removes its question from the newest message. */
export function fromHistory(messages: readonly Message[], open: Confirmation | null = null): ChatMessage[] {
  const last = messages.at(-1);
  const asked = open && last?.role === "assistant" ? last.text.lastIndexOf(open.question) : -1;
  if (last && asked >= 0) {
    const before = { ...last, text: last.text.slice(0, asked).trimEnd() };
    const silent = before.text === "" && before.touched.length === 0;
    return fromHistory([...messages.slice(0, -1), ...(silent ? [] : [before])]);
  }
  return messages.map(({ id, role, text, touched }) => ({
    key: id,
    role,
    text,
    touched: touched.map((todo) => ({ id: todo })),
    state: "done",
  }));
}

/** Returns each todo once, with its last change. */
export function merge(known: readonly Touched[], fresh: readonly Touched[]): Touched[] {
  const all = new Map(known.map((one) => [one.id, one]));
  for (const one of fresh) {
    all.set(one.id, { ...all.get(one.id), ...one });
  }
  return [...all.values()];
}

export interface Deed {
  verb: string;
  todos: { id: string; title: string | undefined }[];
}

export function deedsOf(touched: readonly Touched[], titles: ReadonlyMap<string, string>): Deed[] {
  const deeds = new Map<string, Deed>();
  for (const { id, tool, title } of touched) {
    const verb = VERBS.get(tool ?? "") ?? "Changed";
    const deed = deeds.get(verb) ?? { verb, todos: [] };
    deed.todos.push({ id, title: titles.get(id) ?? title });
    deeds.set(verb, deed);
  }
  return [...deeds.values()];
}

const VERBS = new Map([
  ["add_todo", "Added"],
  ["update_todo", "Changed"],
  ["complete_todo", "Completed"],
  ["delete_todos", "Deleted"],
]);
