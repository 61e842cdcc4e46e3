// Listens immediately. kubelet probes as soon as the container runs, but Next.js listens a third of a second later; after a
// refused connection kubelet waits for its next period. Early connections wait here for the server of Next.js. Then this
// requests one page, because the first page takes several times as long, and no user should wait for that.
import { once } from "node:events";
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
    fetch(`http://${host}:${port}/sign-in`).then((answer) => answer.text()).catch(() => undefined);
  });
  return listen.call(this, early);
};
