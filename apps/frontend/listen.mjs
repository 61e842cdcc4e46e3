// Listens immediately. kubelet probes as soon as the container runs, but Next.js listens a third of a second later; after a
// refused connection kubelet waits for its next period. Early connections wait here for the server of Next.js. Then this
// requests one page, because the first page takes several times as long, and no user should wait for that. From then on,
// pages answer GET requests directly.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, Server } from "node:net";

/** @type {import("node:net").Socket[]} */
const waiting = [];
const early = createServer({ pauseOnConnect: true }, (socket) => waiting.push(socket));
await once(early.listen(Number(process.env.PORT), process.env.HOSTNAME), "listening");

const { listen } = Server.prototype;
/** @this {Server} */
Server.prototype.listen = function () {
  Server.prototype.listen = listen;
  this.once("listening", () => {
    for (const socket of waiting) {
      this.emit("connection", socket);
      socket.resume();
    }
    const { address, family, port } = /** @type {import("node:net").AddressInfo} */ (this.address());
    const host = family === "IPv6" ? `[${address}]` : address;
    fetch(`http://${host}:${port}/sign-in`).then((answer) => answer.text()).then(() => { answerPages(this); })
      .catch((error) => { console.warn("The server of Next.js answers requests for pages:", error); });
  });
  return listen.call(this, early);
};

/**
 * Calls a page's handler for each GET of its address, as adapters of Next.js do. The server of Next.js would first look for
 * files, redirects and other pages, which takes a tenth of a page's CPU time. It still answers all other requests. If a
 * handler fails before it has sent headers, the server runs the page again, and renders the error page if that fails too.
 * @param {Server} server
 */
function answerPages(server) {
  const require = createRequire(`${process.cwd()}/`); // the folder of server.js, not always that of this file
  const { filterInternalHeaders } = require("next/dist/server/lib/server-ipc/utils");
  const files = /** @type {Record<string, string>} */ (JSON.parse(readFileSync(".next/server/pages-manifest.json", "utf8")));
  const pages = new Map(
    Object.entries(files)
      .filter(([path, file]) => file.endsWith(".js") && !/^\/_|\[/.test(path))
      .map(([path, file]) => [path, require(`./.next/server/${file}`).handler]),
  );
  const [next] = server.listeners("request");
  server.removeAllListeners("request");
  server.on("request", (request, response) => {
    const handler = request.method === "GET" ? pages.get(request.url.split("?", 1)[0]) : undefined;
    if (!handler) return next?.(request, response);
    filterInternalHeaders(request.headers);
    // The compression of Next.js sets this on pages, compressed or not.
    response.setHeader("vary", "Accept-Encoding");
    handler(request, response, {}).catch(() => {
      if (response.headersSent) return response.destroy();
      for (const name of response.getHeaderNames()) if (name !== "x-request-id") response.removeHeader(name);
      return next?.(request, response);
    });
  });
}
