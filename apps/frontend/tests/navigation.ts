import { useSyncExternalStore } from "react";

/** Next's two hooks as they are in the browser: they follow the address, however it changes. */

const CHANGED = "test:address";

for (const name of ["pushState", "replaceState"] as const) {
  const original = window.history[name].bind(window.history);
  window.history[name] = (...args) => {
    original(...args);
    window.dispatchEvent(new Event(CHANGED));
  };
}

function subscribe(listener: () => void): () => void {
  window.addEventListener(CHANGED, listener);
  window.addEventListener("popstate", listener);
  return () => {
    window.removeEventListener(CHANGED, listener);
    window.removeEventListener("popstate", listener);
  };
}

const useAddress = () => useSyncExternalStore(subscribe, () => window.location.href);

export const usePathname = () => new URL(useAddress()).pathname;
export const useSearchParams = () => new URL(useAddress()).searchParams;
