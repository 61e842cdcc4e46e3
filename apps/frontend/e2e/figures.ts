import type { FullResult, Reporter, TestCase, TestResult } from "@playwright/test/reporter";

/** Prints `N passed, N failed` on the last line, for the starter of the container. */
export default class Figures implements Reporter {
  private readonly results = new Map<string, boolean>();
  private errors = 0;
  private status: FullResult["status"] = "passed";

  printsToStdio(): boolean {
    return true;
  }

  onTestEnd(test: TestCase, result: TestResult): void {
    this.results.set(test.id, result.status === "passed");
  }

  onError(): void {
    this.errors += 1;
  }

  onEnd(result: FullResult): void {
    this.status = result.status;
  }

  async onExit(): Promise<void> {
    const passed = [...this.results.values()].filter(Boolean).length;
    let failed = this.results.size - passed + this.errors;
    // For example a timeout between two tests.
    if (this.status !== "passed" && failed === 0) failed = 1;
    console.log(`${passed} passed, ${failed} failed`);
  }
}
