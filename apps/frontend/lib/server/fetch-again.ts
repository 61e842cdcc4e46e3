import http, { type RequestOptions } from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import type { Answer } from "@/lib/api/problem";

/** Pause after a failure, in milliseconds. */
const PAUSE = 250;
/** How long to retry, in milliseconds. A node knew a new pod's address 1.8 s after it was ready (measured). */
const AGAIN = 2_000;
/** Time without an answer before a second, parallel request, in milliseconds. */
const SLOW = 1_000;

/** One per process, so that an overloaded backend or a waking database does not get twice the requests. */
let isSecondInFlight = false;

/**
 * Like `fetch`, but repeats an unanswered GET, and returns only an `Answer` for a GET: the pod may be gone, its name may
 * not resolve yet, or the node may not know the new pods yet. A slow request continues in parallel; the first answer
 * counts, and the other request is aborted. Repeats only GET, which changes nothing.
 */
export async function fetchAgain(url: string, init: RequestInit): Promise<Answer> {
  if (init.method !== "GET") return fetch(url, init);
  const end = performance.now() + AGAIN;
  const [first, second] = [new AbortController(), new AbortController()];
  let latest = first;
  const ask = async (own: AbortController, other: AbortController): Promise<Answer> => {
    const signal = AbortSignal.any(init.signal ? [init.signal, own.signal] : [own.signal]);
    for (;;) {
      try {
        const answer = await get(url, init.headers as Sent, signal);
        signal.throwIfAborted();
        if (latest === second) other.abort();
        return answer;
      } catch (error) {
        if (signal.aborted || performance.now() > end) throw error;
        await sleep(PAUSE);
        if (own !== latest) throw error;
      }
    }
  };
  const answer = ask(first, second);
  let wait = SLOW;
  do {
    let timer: Parameters<typeof clearTimeout>[0];
    const slow = new Promise<undefined>((resolve) => { timer = setTimeout(resolve, wait); });
    const early = await Promise.race([answer, slow]).finally(() => { clearTimeout(timer); });
    if (early) return early;
    wait = PAUSE;
  } while (isSecondInFlight);
  isSecondInFlight = true;
  latest = second;
  const beside = ask(second, first).finally(() => { isSecondInFlight = false; });
  try {
    return await Promise.any([answer, beside]);
  } catch (error) {
    throw (error as AggregateError).errors[0];
  }
}

type Sent = NonNullable<RequestOptions["headers"]>;

/** Like `fetch`, but through `node:http` and without a `Response`, which takes less CPU time. Waits for the whole body. */
function get(url: string, headers: Sent, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const fail = (cause: Error) => { reject(signal.aborted ? (signal.reason as Error) : new TypeError("fetch failed", { cause })); };
  (url.startsWith("https:") ? https : http).get(url, { headers, signal }, (answer) => {
    const { statusCode: status = 0, headersDistinct: read } = answer;
    let body = "";
    answer.setEncoding("utf8").on("data", (part: string) => { body += part; }).on("error", fail).on("end", () => {
      resolve({
        ok: status >= 200 && status < 300,
        status,
        headers: { get: (name) => read[name]?.join(", ") ?? null, getSetCookie: () => read["set-cookie"] ?? [] },
        json: () => new Promise((done) => { done(JSON.parse(body)); }),
      });
    });
  }).on("error", fail);
  return promise;
}
