import { once } from "node:events";
import { createServer, request } from "node:http";

// Balancer is a reverse proxy that sends each request to the next of some servers, and to the one after it if that does not take connections.
export class Balancer {
  streams = new Map(); // session → the server that its stream was last opened on

  static async start(servers) {
    const balancer = new Balancer();
    balancer.servers = servers;
    balancer.turn = 0;
    balancer.listener = createServer((asked, answer) => balancer.forward(asked, answer)).listen(0, "127.0.0.1");
    await once(balancer.listener, "listening");
    balancer.url = `http://127.0.0.1:${balancer.listener.address().port}`;
    return balancer;
  }

  async forward(asked, answer) {
    const chunks = [];
    for await (const chunk of asked) chunks.push(chunk);
    const refused = () => answer.writeHead(502).end();
    const attempt = (left) => {
      if (left === 0) return refused();
      const server = this.servers[this.turn++ % this.servers.length];
      const onward = request(server.url + asked.url, { method: asked.method, headers: asked.headers, agent: false }, (response) => {
        const session = new URL(asked.url, this.url).searchParams.get("session");
        if (response.headers["content-type"]?.startsWith("text/event-stream")) this.streams.set(session, server);
        answer.writeHead(response.statusCode, response.headers);
        response.pipe(answer);
        response.on("close", () => answer.destroy()); // a stream that breaks, breaks here too
      });
      onward.on("error", (error) => (error.code === "ECONNREFUSED" ? attempt(left - 1) : answer.destroy()));
      answer.on("close", () => onward.destroy());
      onward.end(Buffer.concat(chunks));
    };
    attempt(this.servers.length);
  }

  close() {
    this.listener.close();
    this.listener.closeAllConnections();
  }
}
