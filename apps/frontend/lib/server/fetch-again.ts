import { setTimeout as sleep } from "node:timers/promises";

/** How long after a failure the next request is sent, in milliseconds. */
const PAUSE = 250;
/** For how long a failure is tried again, in milliseconds: measured, a node knew a new pod's address 1.8 s after it was ready. */
const AGAIN = 2_000;
/** How long an answer may take before a second request is sent beside it, in milliseconds. */
const SLOW = 1_000;

/**
 * `fetch` that sends a GET again if there is no answer: the pod behind the connection may be gone, its name may not resolve
 * yet, or the node may not know the new pods yet. A request that only takes long goes on, and the first answer counts. GET
 * alone: it changes nothing.
 */
export const fetchAgain: typeof fetch = async (url, init) => {
  if (init?.method !== "GET") return fetch(url, init);
  const end = performance.now() + AGAIN;
  const answered = async (): Promise<Response> => {
    for (;;) {
      try {
        return await fetch(url, init);
      } catch (error) {
        if (init.signal?.aborted || performance.now() > end) throw error;
        await sleep(PAUSE);
      }
    }
  };
  const first = answered();
  const early = await Promise.race([first, sleep(SLOW, undefined, { ref: false })]);
  if (early) return early;
  const both = [first, answered()];
  try {
    const answer = await Promise.any(both);
    const discard = async (late: Response) => { if (late !== answer) await late.body?.cancel(); };
    for (const one of both) one.then(discard).catch(() => undefined);
    return answer;
  } catch (error) {
    throw (error as AggregateError).errors[0];
  }
};
