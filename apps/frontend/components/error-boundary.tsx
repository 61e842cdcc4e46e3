import { Component, type ReactNode } from "react";
import { Failure } from "./failure";

interface State { failed: boolean }

/** Shows an error page instead of a page that failed to render. */
export class ErrorBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { failed: false };

  static getDerivedStateFromError(): State {
    return { failed: true };
  }

  override componentDidCatch(error: Error) {
    // No server has the files of this version any more; lib/page/stale-assets.ts reloads the page.
    if (error.name === "ChunkLoadError") dispatchEvent(new Event("stale-assets"));
  }

  override render() {
    return this.state.failed ? <Failure /> : this.props.children;
  }
}
