/** Next makes a web Request of every request, and there can be none with this method: it would answer 500 instead of 405. */
export async function register(): Promise<void> {
  if (process.env.NEXT_RUNTIME !== "nodejs") return;
  const { subscribe } = await import("node:diagnostics_channel");
  subscribe("http.server.request.start", (message) => {
    const { request } = message as { request: { method: string } };
    if (request.method === "TRACE") request.method = "UNKNOWN";
  });
}
