import type { Effect } from "@/lib/todos/known-todos";

interface Message {
  owner: string;
  /** Absent: a page of this owner has begun. */
  effect?: Effect;
}

interface Hooks {
  onEffect: (effect: Effect) => void;
  /** All tabs share one cookie: this user has a page in another tab, so requests are this user's from now on. */
  onOwner: (isSame: boolean) => void;
}

export class Tabs {
  #channel: BroadcastChannel | undefined;

  /** `owner` null: the server could not say whose page this is, so nobody is told and nobody believed. */
  constructor(
    private readonly owner: string | null,
    private readonly hooks: Hooks,
  ) {}

  open(): () => void {
    if (this.owner === null || typeof BroadcastChannel === "undefined") return () => undefined;
    const channel = new BroadcastChannel("todos");
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      const isSame = data.owner === this.owner;
      // An effect says nothing about the cookie: an answer of the user before may come late.
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

  /** Without an effect: this page has begun. */
  tell(effect?: Effect): void {
    if (this.owner !== null) this.#channel?.postMessage({ owner: this.owner, ...(effect && { effect }) } satisfies Message);
  }
}
