/** Next also compiles this file for its Edge runtime, which lacks Node's modules. */
export async function register(): Promise<void> {
  if (process.env.NEXT_RUNTIME === "nodejs") (await import("./lib/server/request-ids")).giveRequestIds();
}
