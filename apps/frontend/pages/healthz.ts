import { handle } from "@/lib/server/handle";

export { nothing as default } from "@/lib/server/handle";
/** Says that this process answers. Not more: a backend that is away must not restart the frontend. */
export const getServerSideProps = handle("GET", () => Response.json({ status: "ok" }, { headers: { "cache-control": "no-store" } }));
