import type { Effect } from "@/lib/todos/known-todos";

interface Message {
  owner: string;
  /** Absent: a page of this owner was opened. */
  effect?: Effect;
}

interface Hooks {
  onEffect: (effect: Effect) => void;
  /** All tabs share one cookie. This user has a page in another tab, so all requests are now this user's. */
  onOwner: (isSame: boolean) => void;
}

export class Tabs {
  #channel: BroadcastChannel | undefined;

  /** `owner` null: the user of this page is unknown, so it neither sends nor accepts messages. */
  constructor(
    private readonly owner: string | null,
    private readonly hooks: Hooks,
  ) {}

  open(): () => void {
    if (this.owner === null || typeof BroadcastChannel === "undefined") return () => undefined;
    const channel = new BroadcastChannel("todos");
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      const isSame = data.owner === this.owner;
      // An effect does not show the cookie's user: a late answer may be for the previous user.
      if (!data.effect) this.hooks.onOwner(isSame);
      else if (isSame) this.hooks.onEffect(data.effect);
    };
    this.#channel = channel;
    this.tell();
    return () => {
      channel.close();
      this.#channel = undefined;
    };
  }

  /** Without an effect: this page was opened. */
  tell(effect?: Effect): void {
    if (this.owner !== null) this.#channel?.postMessage({ owner: this.owner, ...(effect && { effect }) } satisfies Message);
  }
}
