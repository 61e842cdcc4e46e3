import { createHash } from "node:crypto";
import type { User } from "@/lib/api/api-types";

/** In milliseconds. What is remembered does not change for as long as there is the session. */
const KEPT = 60_000;
const MOST = 1_000;

/**
 * Whose session it is, so that not every page has to ask. It decides nothing: who is signed in, the
 * backend says with each list. Not by the token itself: what a session is opened with is kept nowhere.
 */
export class RememberedUsers {
  readonly #users = new Map<string, { user: User; until: number }>();

  of(token: string, now = Date.now()): User | null {
    const known = this.#users.get(nameOf(token));
    return known && known.until > now ? known.user : null;
  }

  remember(token: string, user: User, now = Date.now()): void {
    const name = nameOf(token);
    // The newest last, so that the first is the one to go.
    this.#users.delete(name);
    this.#users.set(name, { user, until: now + KEPT });
    const [oldest] = this.#users.keys();
    if (this.#users.size > MOST && oldest !== undefined) this.#users.delete(oldest);
  }
}

const nameOf = (token: string): string => createHash("sha256").update(token).digest("base64");
