import { Readable } from "node:stream";
import type { GetServerSideProps } from "next";
import { answerHeaders } from "./answer-headers";

/** Answers a request without a page. */
export type Handler = (request: Request) => Response | Promise<Response>;

/**
 * Answers requests with `method` through `handler`; HEAD counts as GET. Used in pages/, because a second router would need
 * its own layout, pages and headers, and a quarter of the build time.
 */
export function handle(method: "GET" | "POST", handler: Handler): GetServerSideProps {
  const allowed = method === "GET" ? ["GET", "HEAD"] : [method];
  return async ({ req, res }) => {
    for (const [name, value] of answerHeaders()) res.setHeader(name, value);
    const answer = allowed.includes(req.method ?? "")
      ? await handler(webRequest(req))
      : new Response(null, { status: 405, headers: { allow: allowed.join(", "), "cache-control": "no-store" } });
    for (const [name, value] of answer.headers) res.appendHeader(name, value);
    res.writeHead(answer.status).end(Buffer.from(await answer.arrayBuffer()));
    return { props: {} };
  };
}

function webRequest(req: Parameters<GetServerSideProps>[0]["req"]): Request {
  const { url = "/", method = "GET" } = req;
  // Reads nothing ahead, so that Node discards the body of a rejected form. A partly read body would block its connection.
  const stream = () => Readable.toWeb(req, { strategy: { highWaterMark: 0 } }) as ReadableStream;
  const body = method === "POST" && { body: stream(), duplex: "half" };
  return new Request(new URL(url, "http://localhost"), { method, headers: req.headers as Record<string, string>, ...body });
}

/** The empty page component of a handler's address. */
export const nothing = () => null;
