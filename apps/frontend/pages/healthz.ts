import { handle } from "@/lib/server/handle";

export { nothing as default } from "@/lib/server/handle";
/** Reports only that this process answers: an unavailable backend must not restart the frontend. */
export const getServerSideProps = handle("GET", () => Response.json({ status: "ok" }, { headers: { "cache-control": "no-store" } }));
