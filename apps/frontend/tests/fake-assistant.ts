import { vi } from "vitest";
import type { Confirmation, Message } from "@/lib/api/api-types";

const encoder = new TextEncoder();

export interface Asked {
  method: string;
  path: string;
  body: unknown;
  signal: AbortSignal | undefined;
}

/** One answer of the assistant; the test writes it piece by piece. */
export class Answer {
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly response: Response;
  /** The client has disconnected. */
  left = false;

  constructor() {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => { this.#controller = controller; },
      cancel: () => { this.left = true; },
    });
    this.response = new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  raw(bytes: string | Uint8Array): void {
    this.#controller.enqueue(typeof bytes === "string" ? encoder.encode(bytes) : bytes);
  }

  send(event: string, data: object): void {
    this.raw(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  say(delta: string): void {
    this.send("text", { delta });
  }

  tool(name: string, ...touched: string[]): void {
    this.send("tool", { name, touched });
  }

  done(): void {
    this.send("done", { message_id: "00000000-0000-4000-8000-000000000001" });
    this.#controller.close();
  }

  /** Ends the connection without an event. */
  end(): void {
    this.#controller.close();
  }

  /** Breaks the connection. */
  cut(reason: unknown = new TypeError("network error")): void {
    this.#controller.error(reason);
  }
}

/** A `fetch` with the assistant's routes, according to the contract. */
export class FakeAssistant {
  readonly asked: Asked[] = [];
  readonly answers: Answer[] = [];
  /** Answers for the next requests, one each; an Error means no answer. */
  readonly failures: (Response | Error)[] = [];
  available = true;
  /** The open confirmation; absent: a backend without this field. */
  confirmation: Confirmation | null | undefined = undefined;

  constructor(public messages: Message[] = []) {
    vi.stubGlobal("fetch", (url: string, init: RequestInit = {}) => this.#answer(url, init));
  }

  /** Posted bodies, newest last. */
  get posts(): string[] {
    return this.asked
      .filter(({ method }) => method === "POST")
      .map(({ path, body }) => `${path} ${JSON.stringify(body)}`);
  }

  /** The current answer, once there is one. */
  async answer(number = 1): Promise<Answer> {
    return vi.waitFor(() => {
      const answer = this.answers[number - 1];
      if (!answer) throw new Error(`nothing was asked ${number} times`);
      return answer;
    });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- as fetch: what it throws, rejects
  async #answer(url: string, init: RequestInit): Promise<Response> {
    const { pathname: path } = new URL(url, "http://localhost");
    const method = init.method ?? "GET";
    const body: unknown = typeof init.body === "string" ? JSON.parse(init.body) : undefined;
    const signal = init.signal ?? undefined;
    this.asked.push({ method, path, body, signal });
    const failure = this.failures.shift();
    if (failure instanceof Error) throw failure;
    if (failure) return failure;
    if (method === "GET") {
      return Response.json({
        available: this.available,
        model: this.available ? "scripted" : null,
        messages: this.messages,
        confirmation: this.confirmation,
      });
    }
    if (method === "DELETE") {
      this.messages = [];
      return new Response(null, { status: 204 });
    }
    signal?.throwIfAborted();
    const answer = new Answer();
    signal?.addEventListener("abort", () => {
      answer.left = true;
      answer.cut(signal.reason);
    });
    this.answers.push(answer);
    return answer.response;
  }
}

/** A problem with a code, like the backend's. */
export function refusal(status: number, code: string, detail = code, retryAfter?: number): Response {
  return Response.json(
    { type: "about:blank", title: "No", status, detail, code, instance: "/" },
    { status, headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) } },
  );
}

export function message(role: "user" | "assistant", text: string, ...touched: string[]): Message {
  return { id: `${role}-${text}`, role, text, created_at: "2026-01-01T00:00:00Z", touched };
}
