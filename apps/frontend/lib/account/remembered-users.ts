import { createHash } from "node:crypto";
import type { User } from "@/lib/api/api-types";

/** In milliseconds. The remembered user never changes within a session. */
const KEPT = 60_000;
const MOST = 1_000;

/**
 * Remembers the users of sessions, so that not every page requests them. Authorizes nothing: the
 * backend checks the session with each list. Stores no tokens, only their digests.
 */
export class RememberedUsers {
  readonly #users = new Map<string, { user: User; until: number }>();

  of(token: string, now = Date.now()): User | null {
    const known = this.#users.get(nameOf(token));
    return known && known.until > now ? known.user : null;
  }

  remember(token: string, user: User, now = Date.now()): void {
    const name = nameOf(token);
    // The newest is last, so the first is removed.
    this.#users.delete(name);
    this.#users.set(name, { user, until: now + KEPT });
    const [oldest] = this.#users.keys();
    if (this.#users.size > MOST && oldest !== undefined) this.#users.delete(oldest);
  }
}

const nameOf = (token: string): string => createHash("sha256").update(token).digest("base64");
