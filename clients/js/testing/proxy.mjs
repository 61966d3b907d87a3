import { once } from "node:events"
import { connect, createServer } from "node:net"

/** Passes TCP connections on to a server until it cuts or stalls them. */
export class Proxy {
  lost = 0 // bytes, while it stalled
  #pairs = new Set()
  #stalled = false
  #refuses = false

  static async start(t, addr) {
    const proxy = new Proxy()
    const [host, port] = addr.split(":")
    proxy.listener = createServer((client) => {
      if (proxy.#refuses) return client.resetAndDestroy()
      const server = connect(Number(port), host)
      const pair = [client, server]
      proxy.#pairs.add(pair)
      for (const [from, to] of [pair, [server, client]]) {
        from.on("data", (bytes) => (proxy.#stalled ? proxy.lost += bytes.length : to.write(bytes))).on("error", () => {}).on("close", () => {
          to.destroy()
          proxy.#pairs.delete(pair)
        })
      }
    }).listen(0, "127.0.0.1")
    await once(proxy.listener, "listening")
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`
    t.after(() => {
      proxy.listener.close()
      proxy.cut()
    })
    return proxy
  }

  /** Breaks every connection. */
  cut() {
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy()
  }

  /** Lets connections stay open and loses what they carry, or no longer. */
  stall(stalled = true) {
    this.#stalled = stalled
  }

  /** Breaks every connection, and new ones too, or no longer. */
  refuse(refuses = true) {
    this.#refuses = refuses
    if (refuses) this.cut()
  }
}
