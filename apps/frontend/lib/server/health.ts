/** Says that this process answers. Not more: a backend that is away must not restart the frontend. */
export function health(): Response {
  return Response.json({ status: "ok" }, { headers: { "cache-control": "no-store" } });
}
