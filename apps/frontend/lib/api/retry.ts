/** Returns the pause before attempt `attempt` (from 1), in milliseconds. */
export function delayOf(attempt: number, retryAfter?: number, random = Math.random): number {
  const backoff = Math.min(500 * 2 ** (attempt - 1), 15_000);
  // Half of it is random, so that open pages do not all retry at the same time.
  const jittered = backoff / 2 + (random() * backoff) / 2;
  return Math.min(Math.max(jittered, retryAfter ?? 0), 30_000);
}

/** Number of consecutive failures after which the user decides; about a minute without Retry-After. */
export const MAX_ATTEMPTS = 8;
