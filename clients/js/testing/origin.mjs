import { fileURLToPath } from "node:url"
import { buildSync } from "esbuild"

// An origin's tabs and their server, simulated: the client's own code runs in each tab, on locks, channels, timers and a network that a seed determines.

const entry = `
  export { connect } from "./index.ts"
  export { sharedStream } from "./shared.ts"
`
const { outputFiles } = buildSync({
  stdin: { contents: entry, resolveDir: fileURLToPath(new URL("../src", import.meta.url)), loader: "ts" },
  bundle: true, format: "iife", globalName: "rollcall", target: "es2022", write: false,
})
const globals = ["globalThis", "navigator", "BroadcastChannel", "setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "Math"]
const load = new Function(...globals, outputFiles[0].text + "; return rollcall")

export class Origin {
  now = 1_000_000
  tabs = []
  channels = new Set()
  locks = new Map() // name → requests, the holder's first
  pending = 0
  #timers = new Map()
  #ids = 0

  constructor(seed) {
    this.random = mulberry32(seed)
    this.server = new Server(this)
  }

  open(options) {
    const tab = new Tab(this, options)
    this.tabs.push(tab)
    return tab
  }

  leader() {
    return this.locks.get("rollcall http://server")[0].tab
  }

  /** How many locks and channels a tab has. */
  holds(tab) {
    const locks = [...this.locks.values()].flat().filter((request) => request.tab === tab)
    return locks.length + [...this.channels].filter((channel) => channel.tab === tab).length
  }

  /** Lets all happen that needs no time. */
  async settle() {
    for (let quiet = 0; quiet < 40; quiet++) {
      await hop()
      if (this.pending) quiet = 0
    }
  }

  async advance(ms) {
    const until = this.now + ms
    await this.settle()
    for (;;) {
      const [id, timer] = [...this.#timers].reduce((first, each) => (each[1].at < (first[1]?.at ?? Infinity) ? each : first), [])
      if (!timer || timer.at > until) break
      this.now = Math.max(this.now, timer.at)
      if (timer.every) timer.at = this.now + timer.every
      else this.#timers.delete(id)
      timer.run()
      await this.settle()
    }
    this.now = until
  }

  timer(run, delay = 0, every) {
    this.#timers.set(++this.#ids, { at: this.now + delay, every, run })
    return this.#ids
  }

  cancel(id) {
    this.#timers.delete(id)
  }

  /** Runs something soon, after what the same chain has been given before. */
  soon(run, chain = {}) {
    this.pending++
    chain.last = Promise.resolve(chain.last).then(async () => {
      for (let n = Math.floor(this.random() * 4); n >= 0; n--) await hop()
      this.pending--
      run()
    })
  }

  /** The invariants that hold at any time: what tabs showed was always true, and nobody who was there flickered. */
  check() {
    for (const tab of this.tabs) tab.check()
    this.server.check()
  }
}

/** A tab, with the client in it. */
class Tab {
  dead = false
  joined = new Map() // topic → key
  sessions = new Set()
  stays = 0 // how often it was hidden, and so left
  faults = []
  #origin
  #blocked // what waits until the tab answers again
  #deferred // timers that wait until the tab is in front again
  #listeners = new Map()
  #shown = new Map()
  #version = new Map()

  constructor(origin, { transport = true, locks = true, linger = 10, token } = {}) {
    this.#origin = origin
    const tab = this
    const timer = (every) => (run, ms) => origin.timer(() => (tab.#deferred ? tab.#deferred.add(run) : tab.run(run)), ms, every ? ms : undefined)
    class BroadcastChannel {
      chains = new Map()
      constructor(name) {
        this.name = name
        this.tab = tab
        origin.channels.add(this)
      }
      postMessage(message) {
        if (tab.dead) return
        if (!origin.channels.has(this)) throw new Error("the channel is closed")
        for (const other of origin.channels) {
          if (other === this || other.name !== this.name) continue
          const data = structuredClone(message)
          if (!this.chains.has(other)) this.chains.set(other, {})
          origin.soon(() => other.tab.run(() => origin.channels.has(other) && other.onmessage?.({ data })), this.chains.get(other))
        }
      }
      close() {
        origin.channels.delete(this)
      }
    }
    const navigator = {
      sendBeacon: (url) => {
        void origin.server.answer("POST", url)
        return true
      },
    }
    if (locks) navigator.locks = { request: (name, ...rest) => this.#lock(name, rest.length > 1 ? rest[0] : {}, rest.at(-1)) }
    const page = {
      navigator, BroadcastChannel,
      addEventListener: (type, listener) => this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]),
      removeEventListener: () => {},
    }
    const math = Object.assign(Object.create(Math), { random: () => origin.random() })
    const cancel = (id) => origin.cancel(id)
    const { connect, sharedStream } = load(page, navigator, BroadcastChannel, timer(), cancel, timer(true), cancel, { now: () => origin.now }, math)
    const fetch = (url, init) => origin.server.fetch(this, url, init)
    this.client = connect("http://server", { linger, token, fetch, ...(transport && { transport: sharedStream() }) })
  }

  /** Lets something happen in this tab. */
  run(what) {
    if (this.dead) return
    if (this.#blocked) this.#blocked.push(what)
    else what()
  }

  #lock(name, { steal, signal }, callback) {
    const { locks } = this.#origin
    return new Promise((resolve, reject) => {
      const queue = locks.get(name) ?? []
      locks.set(name, queue)
      const abort = () => new DOMException("gone", "AbortError")
      const request = {
        tab: this,
        release: () => {
          const held = queue[0] === request
          if (queue.includes(request)) queue.splice(queue.indexOf(request), 1)
          if (held) queue[0]?.grant()
        },
        lose: () => this.run(() => reject(abort())),
        grant: () => this.#origin.soon(() => this.run(() => {
          if (queue[0] !== request) return
          request.granted = true
          Promise.resolve(callback({ name })).then(resolve, reject).finally(request.release)
        })),
      }
      signal?.addEventListener("abort", () => {
        if (request.granted) return
        request.release()
        reject(signal.reason)
      })
      if (signal?.aborted) return reject(signal.reason)
      if (steal) {
        queue.shift()?.lose()
        queue.unshift(request)
      } else queue.push(request)
      if (queue[0] === request) request.grant()
    })
  }

  join(topic, key, meta) {
    this.watch(topic)
    this.joined.set(topic, key)
    this.client.topic(topic).join({ key, meta }).catch((error) => this.faults.push(error))
    return this
  }

  leave(topic) {
    this.joined.delete(topic)
    this.client.topic(topic).leave()
  }

  /** Notes each thing that the tab shows of a topic: the refs of who is there, or that it is stale. */
  watch(topic) {
    if (this.#shown.has(topic)) return this
    const shown = []
    this.#shown.set(topic, shown)
    this.#version.set(topic, 0)
    const object = this.client.topic(topic)
    object.onSync(() => {
      shown.push(this.refs(topic))
      const version = this.#origin.server.find(topic, this.refs(topic), this.#version.get(topic))
      if (version < 0) this.faults.push(new Error(`${topic} shows ${this.refs(topic)}, which is not or no longer so`))
      else this.#version.set(topic, version)
    })
    object.on("stale", (stale) => stale && shown.push("stale"))
    object.watch()
    return this
  }

  shown(topic) {
    return this.#shown.get(topic)
  }

  refs(topic) {
    return this.client.topic(topic).list((_, { metas }) => metas.map((meta) => meta.phx_ref)).flat().sort().join()
  }

  check() {
    if (this.faults.length) throw this.faults[0]
  }

  /** Ends the tab as its user would. */
  close() {
    this.hide()
    this.crash()
  }

  /** Puts the page into the back/forward cache, where it is frozen. */
  hide() {
    for (const listener of this.#listeners.get("pagehide") ?? []) listener({ persisted: true })
    this.ended = true
    this.stays++
    this.block()
  }

  show() {
    this.ended = false
    for (const listener of this.#listeners.get("pageshow") ?? []) listener({ persisted: true })
    this.unblock()
  }

  /** Ends the tab without a chance to say anything. */
  crash() {
    this.dead = this.ended = true
    this.died = this.#origin.now
    for (const queue of this.#origin.locks.values()) for (const request of [...queue]) if (request.tab === this) request.release()
    for (const channel of this.#origin.channels) if (channel.tab === this) channel.close()
    this.#origin.server.hangUp(this)
  }

  /** Puts the tab where no timer runs until it is brought back. */
  throttle() {
    this.#deferred ??= new Set()
  }

  unthrottle() {
    const waiting = this.#deferred ?? []
    this.#deferred = undefined
    for (const run of waiting) this.run(run)
  }

  /** Opens a dialog: nothing in the tab runs until it is closed. */
  block() {
    this.#blocked ??= []
  }

  unblock() {
    const waiting = this.#blocked ?? []
    this.#blocked = undefined
    for (const what of waiting) this.run(what)
  }
}

/** The server, as far as the client needs it. */
class Server {
  down = false
  epoch = 1
  seq = 0
  sessions = new Map() // id → { tab, deadline, streams, present: Map of [topic, key] → { fields, meta } }
  streams = new Set()
  diffs = [] // { seq, topic, joins, leaves }
  history = new Map() // topic → the refs at each version
  requests = []
  refuse = () => undefined // (topics, tab) → [status, code]
  faults = []
  #origin
  #refs = 0
  #tracked = new Map() // session → how often it joined a place

  constructor(origin) {
    this.#origin = origin
    origin.timer(() => this.expire(), 500, 500)
    origin.timer(() => this.#write([...this.streams], ":\n\n"), 15_000, 15_000)
  }

  async fetch(tab, url, { method = "GET", body, signal } = {}) {
    signal?.throwIfAborted()
    const { stays } = tab
    return new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason))
      const { epoch } = this
      const reach = (what) => this.#origin.soon(() => !signal?.aborted && tab.run(this.down || epoch !== this.epoch ? () => reject(new TypeError("Failed to fetch")) : what))
      reach(() => {
        const answer = this.answer(method, url, body && JSON.parse(body), { tab, stays }, signal)
        reach(() => resolve(answer))
      })
    })
  }

  answer(method, url, body, from, signal) {
    const { pathname, searchParams } = new URL(url)
    const path = pathname.slice("/v1".length)
    const [, , id] = path.split("/")
    this.requests.push(`${method} ${path.startsWith("/sessions/") ? path.replace(id, "…") : path}`)
    if (this.down) return
    if (path === "/events") return this.#stream(searchParams, from.tab, signal)
    if (path === "/heartbeats") return json({ unknown: body.sessions.filter((session) => !this.#renew(session)) })
    if (path.endsWith("/heartbeat")) return this.#renew(id) ? json({}) : problem(404, "unknown_session")
    if (path.endsWith("/leave")) return this.#end(id), new Response(null, { status: 204 })
    const [, , topic, , key] = path.split("/").map(decodeURIComponent)
    if (method === "DELETE") return this.#untrack(searchParams.get("session"), topic, key), new Response(null, { status: 204 })
    return this.#track(from, body.session, topic, key, body.meta)
  }

  #renew(id) {
    const session = this.sessions.get(id)
    if (session) session.deadline = this.#origin.now + 30_000
    return session
  }

  #track(from, id, topic, key, fields) {
    const refused = this.refuse([topic], from.tab)
    if (refused) return problem(...refused)
    if (!this.sessions.has(id)) this.sessions.set(id, { ...from, streams: 0, present: new Map() })
    const { present } = this.#renew(id)
    const place = JSON.stringify([topic, key])
    const before = present.get(place)
    if (before && JSON.stringify(before.fields) === JSON.stringify(fields)) return json({ ttl: 30, ref: before.meta.phx_ref })
    const meta = { ...fields, phx_ref: `r${++this.#refs}`, ...(before && { phx_ref_prev: before.meta.phx_ref }) }
    present.set(place, { fields, meta })
    if (!before) this.#count(from.tab, id, place)
    this.#publish(topic, { [key]: { metas: [meta] } }, before ? { [key]: { metas: [before.meta] } } : {})
    return json({ ttl: 30, ref: meta.phx_ref })
  }

  /** A session that joins a place where it has been was taken for gone while its tab lived. */
  #count(tab, id, place) {
    const places = this.#tracked.get(id) ?? new Set()
    if (places.has(place)) this.faults.push(new Error(`${place} flickered`))
    this.#tracked.set(id, places.add(place))
    tab.sessions.add(id)
  }

  #untrack(id, topic, key) {
    const session = this.sessions.get(id)
    const place = JSON.stringify([topic, key])
    const held = session?.present.get(place)
    if (!held) return
    session.present.delete(place)
    this.#tracked.get(id).delete(place)
    this.#publish(topic, {}, { [key]: { metas: [held.meta] } })
  }

  #end(id) {
    for (const place of this.sessions.get(id)?.present.keys() ?? []) this.#untrack(id, ...JSON.parse(place))
    this.sessions.delete(id)
  }

  expire() {
    for (const [id, { streams, deadline, present, tab, stays }] of this.sessions) {
      if (streams || deadline > this.#origin.now) continue
      if (present.size && !tab.ended && tab.stays === stays) this.faults.push(new Error("the lease of a living tab ran out"))
      this.#end(id)
    }
  }

  state(topic) {
    const state = Object.create(null)
    for (const { present } of this.sessions.values()) {
      for (const [place, { meta }] of present) {
        const [of, key] = JSON.parse(place)
        if (of === topic) (state[key] ??= { metas: [] }).metas.push(meta)
      }
    }
    return state
  }

  refs(topic) {
    return Object.values(this.state(topic)).flatMap(({ metas }) => metas.map((meta) => meta.phx_ref)).sort().join()
  }

  devices(topic) {
    return Object.values(this.state(topic)).reduce((sum, { metas }) => sum + metas.length, 0)
  }

  /** The first version from `from` on in which the topic had these refs; -1 if there is none. */
  find(topic, refs, from) {
    return (this.history.get(topic) ?? [""]).indexOf(refs, from)
  }

  #publish(topic, joins, leaves) {
    const diff = { seq: ++this.seq, topic, joins, leaves }
    this.diffs.push(diff)
    if (!this.history.has(topic)) this.history.set(topic, [""])
    this.history.get(topic).push(this.refs(topic))
    this.#write([...this.streams].filter(({ topics }) => topics.includes(topic)), this.#frame("presence_diff", topic, { joins, leaves }, diff.seq))
  }

  #frame(event, topic, payload, seq) {
    return `event: ${event}\ndata: ${JSON.stringify({ topic, payload })}\nid: ${this.epoch}-${seq}\n\n`
  }

  #stream(query, tab, signal) {
    const topics = query.getAll("topic")
    const session = this.sessions.get(query.get("session"))
    const refused = this.refuse(topics, tab)
    if (refused) return problem(...refused)
    if (query.has("session") && !session) return problem(404, "unknown_session")
    const [epoch, seq] = (query.get("last_event_id") ?? "").split("-")
    const resumes = Number(epoch) === this.epoch
    const missed = this.diffs.filter((diff) => diff.seq > Number(seq) && topics.includes(diff.topic))
    const frames = resumes
      ? missed.map((diff) => this.#frame("presence_diff", diff.topic, { joins: diff.joins, leaves: diff.leaves }, diff.seq))
      : topics.map((topic) => this.#frame("presence_state", topic, this.state(topic), this.seq))
    const stream = { topics, tab, session, chain: {}, linger: Number(query.get("linger")) * 1000 }
    const body = new ReadableStream({ start: (controller) => (stream.controller = controller) })
    if (session) session.streams++
    this.streams.add(stream)
    signal.addEventListener("abort", () => this.#cut(stream))
    this.#write([stream], frames.join("") + "retry: 1000\n\n")
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } })
  }

  #write(streams, text) {
    const bytes = new TextEncoder().encode(text)
    for (const stream of streams) {
      this.#origin.soon(() => stream.tab.run(() => this.streams.has(stream) && stream.controller.enqueue(bytes)), stream.chain)
    }
  }

  #cut(stream) {
    if (!this.streams.delete(stream)) return
    if (stream.session && --stream.session.streams === 0) stream.session.deadline = this.#origin.now + stream.linger
    stream.tab.run(() => stream.controller.error(new TypeError("network error")))
  }

  /** Breaks all connections. */
  cut() {
    for (const stream of [...this.streams]) this.#cut(stream)
  }

  hangUp(tab) {
    for (const stream of [...this.streams]) if (stream.tab === tab) this.#cut(stream)
  }

  /** Ends the server as a power cut would, and starts it again knowing nothing. */
  restart() {
    this.cut()
    const topics = [...this.history.keys()]
    this.sessions.clear()
    this.#tracked.clear()
    this.epoch++
    for (const topic of topics) this.history.get(topic).push("")
  }

  check() {
    if (this.faults.length) throw this.faults[0]
  }
}

const hop = () => new Promise((resolve) => setImmediate(resolve))

const json = (value) => new Response(JSON.stringify(value), { headers: { "Content-Type": "application/json" } })

const problem = (status, code) => new Response(JSON.stringify({ status, code, detail: code }), { status, headers: { "Content-Type": "application/problem+json" } })

// mulberry32 is a small generator of numbers in [0, 1) that a seed determines.
function mulberry32(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
