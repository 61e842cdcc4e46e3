import type { Confirmation } from "@/lib/api/api-types";
import type { Answer, AssistantApi } from "./assistant-api";
import { type Touched, type ChatMessage, fromHistory, merge } from "./assistant-messages";
import { closedQuestion, codeOf, type Trouble, troubleOf } from "./assistant-trouble";
import type { TodoLink } from "@/lib/todos/todo-store";

export const MESSAGE_MAX = 2_000;
/** How long a confirmation stays open, in milliseconds. */
const CONFIRMATION_LIFE = 10 * 60_000;
/** How long to wait for a stopped request to end on the server, in milliseconds. */
const LINGER = [300, 700, 1_500];

export interface Snapshot {
  /** failed: loading the conversation failed; off: there is no key. */
  status: "loading" | "failed" | "off" | "ready";
  model: string | null;
  messages: readonly ChatMessage[];
  /** A request is running; `answering` after its first data. */
  phase: "idle" | "waiting" | "answering";
  confirmation: Confirmation | null;
  trouble: Trouble | null;
  draft: string;
}

type Request =
  | { kind: "ask"; text: string; resume?: true }
  | { kind: "confirm"; approve: boolean; of: Confirmation };

export class AssistantStore {
  #snapshot: Snapshot = {
    status: "loading",
    model: null,
    messages: [],
    phase: "idle",
    confirmation: null,
    trouble: null,
    draft: "",
  };
  #running: AbortController | undefined;
  #failed: Request | undefined;
  #stoppedAt = Number.NEGATIVE_INFINITY;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  #keys = 0;
  readonly #listeners = new Set<() => void>();

  constructor(
    private readonly api: AssistantApi,
    private readonly todos: Pick<TodoLink, "titles" | "touch" | "settle">,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): Snapshot => this.#snapshot;

  /** Loads the conversation, and then ends a running request. */
  start(): () => void {
    void this.#load();
    return () => {
      this.#running?.abort();
      clearTimeout(this.#expiry);
    };
  }

  write(draft: string): void {
    this.#set({ draft });
  }

  /** Returns false if the text is blank or the assistant is working. */
  ask(text: string = this.#snapshot.draft): boolean {
    const trimmed = text.trim();
    const { status, phase, draft } = this.#snapshot;
    if (!trimmed || trimmed.length > MESSAGE_MAX || status !== "ready" || phase !== "idle") return false;
    if (draft.trim() === trimmed) this.#set({ draft: "" });
    void this.#run({ kind: "ask", text: trimmed });
    return true;
  }

  confirm(approve: boolean): void {
    const { confirmation, phase } = this.#snapshot;
    if (confirmation && phase === "idle") void this.#run({ kind: "confirm", approve, of: confirmation });
  }

  stop(): void {
    this.#stoppedAt = Date.now();
    this.#running?.abort();
  }

  retry(): void {
    if (this.#snapshot.phase !== "idle") return;
    const failed = this.#failed;
    if (!failed) void this.#load();
    else if (failed.kind === "ask" && !failed.resume) this.ask(failed.text);
    else void this.#run(failed);
  }

  dismiss(): void {
    this.#failed = undefined;
    this.#set({ trouble: null });
  }

  async forget(): Promise<void> {
    if (this.#snapshot.phase !== "idle") return;
    try {
      await this.api.forget();
      this.#close();
      this.#set({ messages: [], trouble: null });
    } catch (error) {
      this.#failed = undefined;
      this.#set({ trouble: { ...troubleOf(error), remedy: "none" } });
    }
  }

  async #load(): Promise<void> {
    this.#failed = undefined;
    this.#set({ trouble: null, ...(this.#snapshot.status !== "ready" && { status: "loading" }) });
    try {
      const { available, model, messages, confirmation } = await this.api.state();
      // Without a key an answer is impossible.
      const open = available ? confirmation : null;
      this.#close();
      this.#set({ status: available ? "ready" : "off", model, messages: fromHistory(messages, open) });
      if (open) this.#ask(open);
    } catch (error) {
      const { status } = this.#snapshot;
      this.#set({ status: status === "ready" ? status : "failed", trouble: troubleOf(error) });
    }
  }

  async #run(request: Request): Promise<void> {
    const running = new AbortController();
    this.#running = running;
    this.#failed = undefined;
    const before = this.#snapshot.messages;
    this.#set({
      phase: "waiting",
      trouble: null,
      ...(request.kind === "ask" && !request.resume && {
        messages: [...before, this.#message("user", request.text)],
      }),
    });
    const answer = this.#message("assistant", "", "streaming");
    try {
      await this.#follow(this.#open(request, running.signal), answer);
      this.#finish(answer.key, "done");
    } catch (error) {
      if (running.signal.aborted) this.#stopped(answer);
      else this.#fail(request, answer.key, before, error);
      // It may have made changes before the error.
      this.todos.touch([]);
    } finally {
      this.#running = undefined;
      this.#set({ phase: "idle" });
    }
  }

  async *#open(request: Request, signal: AbortSignal): Answer {
    // It works on the server's list, so pending changes are sent first.
    await this.todos.settle();
    signal.throwIfAborted();
    const lingers = Date.now() - this.#stoppedAt < 5_000 ? LINGER : [];
    for (const pause of [...lingers, undefined]) {
      try {
        yield* request.kind === "ask"
          ? this.api.ask(request.text, request.resume ?? false, signal)
          : this.api.confirm(request.of.id, request.approve, signal);
        return;
      } catch (error) {
        if (pause === undefined || codeOf(error) !== "assistant-busy") throw error;
        await new Promise((resolve) => setTimeout(resolve, pause));
        signal.throwIfAborted();
      }
    }
  }

  async #follow(events: Answer, answer: ChatMessage): Promise<void> {
    for await (const event of events) {
      if (this.#snapshot.phase === "waiting") {
        // A new message or an answer closes an open question.
        this.#close();
        this.#set({ phase: "answering", messages: [...this.#snapshot.messages, answer] });
      }
      if (event.type === "text") {
        this.#change(answer.key, ({ text }) => ({ text: text + event.delta }));
      } else if (event.type === "tool" && event.touched.length > 0 && event.name !== "list_todos") {
        const titles = this.todos.titles();
        const touched = event.touched.map((id): Touched => {
          const title = titles.get(id);
          return { id, tool: event.name, ...(title !== undefined && { title }) };
        });
        this.#change(answer.key, (old) => ({ touched: merge(old.touched, touched) }));
        this.todos.touch(event.touched);
      } else if (event.type === "confirmation") {
        this.#ask(event.confirmation);
      }
    }
  }

  #fail(request: Request, key: string, before: readonly ChatMessage[], error: unknown): void {
    const begun = this.#snapshot.phase === "answering";
    const came = this.#snapshot.messages.find((one) => one.key === key);
    /** The received part is stored; repeating the message would repeat its changes. */
    const kept = Boolean(came && (came.text || came.touched.length > 0));
    const closed = request.kind === "confirm" && !begun ? closedQuestion(error) : null;
    if (closed) this.#close();
    if (request.kind === "ask") {
      // Without any data, removes the message. Otherwise the received part stays.
      if (!begun) this.#set({ messages: before });
      // Restores the typed text, unless the field has other text.
      if (!kept && !request.resume && !this.#snapshot.draft.trim()) this.#set({ draft: request.text });
    }
    this.#finish(key, "cut");
    if (codeOf(error) === "assistant-not-configured") {
      this.#set({ status: "off" });
      return;
    }
    this.#failed = request.kind === "ask" && kept ? { ...request, resume: true } : request;
    const trouble = closed ?? troubleOf(error);
    // A confirmation accepts one answer, and this one was accepted.
    const spent = request.kind === "confirm" && begun && trouble.remedy === "retry";
    this.#set({ trouble: spent ? { ...trouble, remedy: "none" } : trouble });
  }

  #ask(confirmation: Confirmation): void {
    const left = Date.parse(confirmation.expires_at) - Date.now();
    // Clocks differ, so the server decides whether it is too late.
    const life = left > 0 && left < CONFIRMATION_LIFE ? left : CONFIRMATION_LIFE;
    this.#set({ confirmation });
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => {
      // Answered just before the end; the server decides.
      if (this.#snapshot.phase !== "idle") return;
      this.#close();
      this.#set({
        trouble: { text: "The confirmation expired. Nothing was changed.", remedy: "none" },
      });
    }, life);
  }

  #close(): void {
    clearTimeout(this.#expiry);
    if (this.#snapshot.confirmation) this.#set({ confirmation: null });
  }

  #stopped(answer: ChatMessage): void {
    // No data yet, so the note is the whole answer.
    if (this.#snapshot.phase === "waiting") this.#set({ messages: [...this.#snapshot.messages, answer] });
    this.#finish(answer.key, "stopped");
  }

  #finish(key: string, state: ChatMessage["state"]): void {
    this.#change(key, () => ({ state }));
    // For example the question about deleting, which needs no text.
    if (state !== "done") return;
    const empty = (one: ChatMessage) => one.key === key && one.text.trim() === "" && one.touched.length === 0;
    this.#set({ messages: this.#snapshot.messages.filter((one) => !empty(one)) });
  }

  #change(key: string, change: (message: ChatMessage) => Partial<ChatMessage>): void {
    this.#set({
      messages: this.#snapshot.messages.map((message) =>
        message.key === key ? { ...message, ...change(message) } : message,
      ),
    });
  }

  #message(role: ChatMessage["role"], text: string, state: ChatMessage["state"] = "done"): ChatMessage {
    this.#keys += 1;
    return { key: `new-${this.#keys}`, role, text, touched: [], state };
  }

  #set(change: Partial<Snapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    this.#listeners.forEach((listener) => { listener(); });
  }
}
