import { Component, type ReactNode } from "react";
import { Failure } from "./failure";

interface State {
  failed: boolean;
}

/** Shows an error of this program's own in place of the page. */
export class ErrorBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { failed: false };

  static getDerivedStateFromError(): State {
    return { failed: true };
  }

  override componentDidCatch(error: Error) {
    // Files of a version that no server has any more: lib/page/stale-assets.ts loads the page again.
    if (error.name === "ChunkLoadError") dispatchEvent(new Event("stale-assets"));
  }

  override render() {
    return this.state.failed ? <Failure /> : this.props.children;
  }
}
