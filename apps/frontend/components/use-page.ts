import { useEffect } from "react";
import type { TodoStore } from "@/lib/todo-store";

/** Asks before the page is left with changes that could not be sent. */
export function useLeaveWarning(unsaved: boolean) {
  useEffect(() => {
    if (!unsaved) return;
    const ask = (event: BeforeUnloadEvent) => {
      event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => {
      window.removeEventListener("beforeunload", ask);
    };
  }, [unsaved]);
}

/**
 * All tabs share one cookie: when somebody else signs in in another one, this page's changes must
 * not go to them.
 */
export function useOtherUsers(user: { id: string } | null, store: TodoStore) {
  const id = user?.id;
  useEffect(() => {
    if (id === undefined || typeof BroadcastChannel === "undefined") return;
    const channel = new BroadcastChannel("todo-user");
    channel.onmessage = ({ data }) => {
      if (data !== id) store.signedOut();
    };
    channel.postMessage(id);
    return () => {
      channel.close();
    };
  }, [id, store]);
}
