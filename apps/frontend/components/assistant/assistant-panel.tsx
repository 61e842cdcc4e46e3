import { type KeyboardEvent, type MouseEvent, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { createApi } from "@/lib/api/api";
import { assistantApi } from "@/lib/assistant/assistant-api";
import { AssistantStore } from "@/lib/assistant/assistant-store";
import type { TodoLink } from "@/lib/todos/todo-store";
import { reveal, useSettled } from "../use-page";
import { Announcer } from "./announcer";
import styles from "./assistant-panel.module.css";
import { Composer } from "./composer";
import { ConfirmationCard } from "./confirmation-card";
import { PanelHeader } from "./panel-header";
import { Transcript } from "./transcript";
import { TroubleNotice } from "./trouble-notice";
import { usePanel } from "./use-panel";
import { Welcome } from "./welcome";

export interface AssistantPanelProps {
  user: string | undefined;
  todos: TodoLink;
  open: boolean;
  /** Each new value moves the focus here. */
  calls: number;
  onClose: () => void;
}

const LONG_WAIT = "The AI provider has not answered yet. Loading a model can take a minute.";
const LONG_MS = 8_000;

/** Stays mounted while closed, so requests continue and typed text is kept. */
export function AssistantPanel({ user, todos, open, calls, onClose }: AssistantPanelProps) {
  const [store] = useState(() => new AssistantStore(assistantApi(createApi({ user })), todos));
  const state = useSyncExternalStore(store.subscribe, store.snapshot, store.snapshot);
  const titles = useSyncExternalStore(todos.subscribe, todos.titles, todos.titles);
  const isWaiting = state.phase === "waiting";
  const settled = useSettled(isWaiting ? LONG_WAIT : "", isWaiting ? LONG_MS : 0);
  const wait = isWaiting ? settled : "";
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const { status, messages, phase, confirmation, trouble } = state;

  useEffect(() => store.start(), [store]);
  usePanel(dialog, open, calls, () => {
    // On a touch screen the field would open the keyboard, which covers the conversation.
    const touch = window.matchMedia("(pointer: coarse)").matches;
    if (touch || status === "off" || status === "failed") heading.current?.focus();
    else field.current?.focus();
  });

  useEffect(() => {
    // The focused field disappears if the assistant turns out to be off.
    if (open && status === "off" && document.activeElement === document.body) heading.current?.focus();
  }, [open, status]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || event.nativeEvent.isComposing) return;
    event.preventDefault();
    onClose();
  };
  const onClick = (event: MouseEvent) => {
    // A click beside the panel has the dialog itself as its target.
    if (event.target === dialog.current) onClose();
  };

  return (
    <dialog
      ref={dialog}
      className={styles.panel}
      aria-labelledby="assistant-heading"
      onKeyDown={onKeyDown}
      onClick={onClick}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <div className={styles.inside}>
        <PanelHeader
          heading={heading}
          model={state.model}
          forgettable={messages.length > 0 && phase === "idle"}
          onForget={() => {
            void store.forget();
            heading.current?.focus();
          }}
          onClose={onClose}
        />
        <Transcript messages={messages} titles={titles} waiting={isWaiting} wait={wait} onReveal={(id) => {
          if (dialog.current?.matches(":modal")) onClose();
          const key = todos.keyOf(id);
          if (key !== undefined) reveal(key);
        }}>
          {(messages.length === 0 || status === "off") && (
            <Welcome
              status={status}
              onAsk={(text) => {
                store.ask(text);
                field.current?.focus();
              }}
              onCheck={() => { store.retry(); }}
            />
          )}
          {/* Only when idle: the card takes the focus, so its buttons must work. */}
          {confirmation && phase === "idle" && (
            <ConfirmationCard
              key={confirmation.id}
              confirmation={confirmation}
              onAnswer={(approve) => {
                store.confirm(approve);
                field.current?.focus();
              }}
            />
          )}
        </Transcript>
        <TroubleNotice
          trouble={trouble}
          onRetry={() => {
            store.retry();
            field.current?.focus();
          }}
          onDismiss={() => {
            store.dismiss();
            field.current?.focus();
          }}
        />
        {status !== "off" && (
          <Composer
            field={field}
            draft={state.draft}
            busy={phase !== "idle"}
            ready={status === "ready"}
            onWrite={(text) => { store.write(text); }}
            onSend={() => store.ask()}
            onStop={() => { store.stop(); }}
          />
        )}
        <Announcer messages={messages} phase={phase} wait={wait} titles={titles} />
      </div>
    </dialog>
  );
}
