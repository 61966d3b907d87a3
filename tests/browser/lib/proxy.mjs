import { connect, createServer } from "node:net";
import { once } from "node:events";

// Proxy passes TCP connections on to a server until it cuts them.
export class Proxy {
  sockets = new Set();
  requests = ""; // the bytes that clients sent, as text

  static async start(addr) {
    const proxy = new Proxy();
    const [host, port] = addr.split(":");
    proxy.listener = createServer((client) => {
      const server = connect(Number(port), host);
      for (const [from, to] of [[client, server], [server, client]]) {
        proxy.sockets.add(from);
        from.on("close", () => {
          proxy.sockets.delete(from);
          to.destroy();
        });
        from.on("error", () => {}); // "close" follows
        from.pipe(to);
      }
      client.on("data", (bytes) => (proxy.requests += bytes.toString("latin1")));
    }).listen(0, "127.0.0.1");
    await once(proxy.listener, "listening");
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  // cut breaks every connection; new ones are passed on again.
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  // lastEventIDs are those that clients sent so far, in a header or in the URL.
  lastEventIDs() {
    return [...this.requests.matchAll(/^last-event-id: *(.*?)\r$|[?&]last_event_id=([^& ]+)/gim)].map(([, header, query]) => header ?? query);
  }

  close() {
    this.listener.close();
    this.cut();
  }
}
