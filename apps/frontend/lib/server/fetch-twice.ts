import { setTimeout as sleep } from "node:timers/promises";

/** How long after a failure the second request is sent, in milliseconds. */
const PAUSE = 200;
/** How long an answer may take before the second request is sent, in milliseconds. */
const SLOW = 1_000;

/**
 * `fetch` that sends a GET once more if there is no answer: the pod behind the connection may be gone, or its name may not
 * resolve yet. The first request goes on if it only takes long, and the first answer counts. GET alone: it changes nothing.
 */
export const fetchTwice: typeof fetch = async (url, init) => {
  const first = fetch(url, init);
  if (init?.method !== "GET") return first;
  const early = await Promise.race([first.catch(() => sleep(PAUSE)), sleep(SLOW, undefined, { ref: false })]);
  if (early) return early;
  const both = [first, fetch(url, init)];
  try {
    const answer = await Promise.any(both);
    const discard = async (late: Response) => { if (late !== answer) await late.body?.cancel(); };
    for (const one of both) one.then(discard).catch(() => undefined);
    return answer;
  } catch (error) {
    throw (error as AggregateError).errors[0];
  }
};
