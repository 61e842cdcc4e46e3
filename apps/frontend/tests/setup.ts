import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";

// All waits have this limit, in milliseconds. It ends a wait for what never happens, and is never a measure of time.
const LIMIT = 60_000;
configure({ asyncUtilTimeout: LIMIT });
const { waitFor } = vi;
vi.waitFor = (condition, options = LIMIT) => waitFor(condition, options);

// jsdom has no layout, so it cannot scroll.
if (typeof Element !== "undefined") Element.prototype.scrollIntoView = () => undefined;

// It cannot detect visible elements either.
Object.assign(globalThis, {
  IntersectionObserver: class {
    observe = () => undefined;
    disconnect = () => undefined;
  },
});

// jsdom has the element, but cannot open it.
if (typeof HTMLDialogElement !== "undefined" && !("showModal" in HTMLDialogElement.prototype)) {
  Object.assign(HTMLDialogElement.prototype, {
    showModal(this: HTMLDialogElement) {
      this.open = true;
    },
  });
}

afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  if (typeof window !== "undefined") window.history.replaceState(null, "", "/");
});
