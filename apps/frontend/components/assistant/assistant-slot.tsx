import { type ComponentType, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Action, Notice } from "@/components/notice";
import { useKeys } from "@/components/use-page";
import type { AssistantPanelProps } from "./assistant-panel";
import styles from "./assistant-slot.module.css";
import { Spark } from "@/components/icons";

type Panel = ComponentType<AssistantPanelProps>;

/**
 * The button that opens the assistant. The panel is loaded on first use, so that the list does not
 * wait for it.
 */
export function AssistantSlot({ user, todos }: Pick<AssistantPanelProps, "user" | "todos">) {
  const [panel, setPanel] = useState<{ Panel: Panel } | "loading" | "failed" | null>(null);
  const [open, setOpen] = useState(false);
  /** Counts the requests to open it, also while it is open and the focus is elsewhere. */
  const [calls, setCalls] = useState(0);
  const button = useRef<HTMLButtonElement>(null);
  const before = useRef<Element | null>(null);
  const hydrated = useHydrated();

  const show = () => {
    const focused = document.activeElement;
    if (!focused?.closest("dialog")) before.current = focused;
    setOpen(true);
    setCalls((count) => count + 1);
    setPanel((known) => known ?? "loading");
  };

  useEffect(() => {
    if (panel !== "loading") return;
    let wanted = true;
    import("./assistant-panel").then(
      ({ AssistantPanel }) => { if (wanted) setPanel({ Panel: AssistantPanel }); },
      () => { if (wanted) setPanel("failed"); },
    );
    return () => { wanted = false; };
  }, [panel]);

  useShortcut(show);

  const close = () => { setOpen(false); };
  const wasOpen = useRef(false);
  // Returns the focus immediately when the panel closes; later it could take the focus from the user's next choice.
  // By now the button is back on the page.
  useEffect(() => {
    if (wasOpen.current && !open) {
      const target = before.current;
      const gone = !(target instanceof HTMLElement) || !target.isConnected || target === document.body;
      (gone ? button.current : target)?.focus();
    }
    wasOpen.current = open;
  }, [open]);

  const loaded = typeof panel === "object" && panel !== null;
  return (
    <>
      <button
        ref={button}
        type="button"
        className={styles.button}
        // It needs JavaScript.
        hidden={!hydrated || (open && loaded)}
        aria-haspopup="dialog"
        aria-expanded={open && loaded}
        aria-keyshortcuts="Control+K Meta+K"
        title={hydrated ? `Assistant (${onApple() ? "⌘" : "Ctrl+"}K)` : undefined}
        aria-busy={open && panel === "loading"}
        onClick={show}
      >
        <Spark />
        <span className={styles.label}>Assistant</span>
      </button>
      <noscript>
        <p className={styles.hint}>The assistant needs JavaScript. Everything else works without it.</p>
      </noscript>
      {open && panel === "failed" && (
        <div className={styles.failure} role="alert">
          <Notice tone="refused" text="The assistant could not be loaded. Check your connection.">
            <Action onClick={() => { setPanel("loading"); }}>Try again</Action>
            <Action onClick={() => { setPanel(null); close(); }}>Close</Action>
          </Notice>
        </div>
      )}
      {loaded && <panel.Panel user={user} todos={todos} open={open} calls={calls} onClose={close} />}
    </>
  );
}

const never = () => () => undefined;

/** False in the server's HTML, true once JavaScript runs. */
function useHydrated(): boolean {
  return useSyncExternalStore(never, () => true, () => false);
}

const onApple = () => navigator.userAgent.includes("Mac OS");

/** Ctrl+K, or ⌘K where Ctrl+K deletes to the end of the line. */
function useShortcut(action: () => void): void {
  useKeys((event) => {
    const modifier = onApple() ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
    if (!modifier || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    action();
  });
}
