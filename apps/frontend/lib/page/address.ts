import { useSyncExternalStore } from "react";

const CHANGED = "todo-address";

/**
 * Adds only a history entry. The list is already loaded, so a filter needs no request and works offline.
 */
export function go(address: string, how: "pushState" | "replaceState" = "pushState"): void {
  window.history[how](null, "", address);
  dispatchEvent(new Event(CHANGED));
}

export function useAddress(initial: string): URL {
  return new URL(useSyncExternalStore(subscribe, here, () => initial), "http://here");
}

const here = () => window.location.pathname + window.location.search;

function subscribe(listener: () => void): () => void {
  addEventListener(CHANGED, listener);
  addEventListener("popstate", listener);
  return () => {
    removeEventListener(CHANGED, listener);
    removeEventListener("popstate", listener);
  };
}
