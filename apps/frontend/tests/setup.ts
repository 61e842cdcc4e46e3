import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";

// How long something is waited for: the panel's module is loaded in the first test, on a busy machine for over a second.
configure({ asyncUtilTimeout: 5_000 });

// jsdom lays nothing out, so it has nothing to scroll.
if (typeof Element !== "undefined") Element.prototype.scrollIntoView = () => undefined;

// Nor can anything come into view.
Object.assign(globalThis, {
  IntersectionObserver: class {
    observe = () => undefined;
    disconnect = () => undefined;
  },
});

// jsdom has the element, but not yet how it opens.
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
