import { setImmediate as real } from "node:timers/promises"

/** Lets all happen that needs no time. */
export async function settle() {
  for (let i = 0; i < 6; i++) await real()
}

/** A fake clock for the client and the server: node:test's mock timers, and what they leave out. */
export class Clock {
  #timers
  #slept = 0

  constructor(t) {
    this.#timers = t.mock.timers
    this.#timers.enable({ apis: ["setTimeout", "setInterval", "Date"] })
    const { now } = Date
    t.mock.method(Date, "now", () => now() + this.#slept)
    t.mock.method(AbortSignal, "timeout", (ms) => {
      const controller = new AbortController()
      setTimeout(() => controller.abort(new DOMException("the request took too long", "TimeoutError")), ms)
      return controller.signal
    })
  }

  async advance(ms, step = 25) {
    await settle()
    for (let left = ms; left > 0; left -= step) {
      this.#timers.tick(Math.min(step, left))
      await settle()
    }
  }

  /** The machine sleeps: time passes, and no timer runs. */
  sleep(ms) {
    this.#slept += ms
  }
}

/** What the client needs of a server, in memory: `fetch` is what a client is given. Requests and answers take `latency` milliseconds each. */
export class FakeServer {
  latency = 5
  ttl = 30
  requests = [] // as "PUT room/ann", "heartbeat", "leave", "stream room+hall" or "stream room bound", with " since 7" when it resumes
  history = [] // what a watcher of everything would see: "+room/ann {}", "-room/ann {}"
  sessions = new Map() // id → { present: Map, streams, timer }
  streams = new Set()
  /** Refuses requests: returns a Response, or throws, or returns a promise of either; nothing, or false, lets it through. */
  refuse = () => undefined
  /** The same for answers to requests that did have their effect. */
  lose = () => undefined
  #epoch = 1
  #seq = 0
  #refs = 0
  #diffs = []

  constructor() {
    setInterval(() => this.#send([...this.streams], ":\n\n"), 15_000)
  }

  fetch = async (url, { method = "GET", headers = {}, body, signal } = {}) => {
    const request = this.#parse(method, new URL(url), body, headers, signal)
    const aborted = new Promise((_, reject) => {
      if (signal?.aborted) reject(signal.reason)
      signal?.addEventListener("abort", () => reject(signal.reason))
    })
    return Promise.race([aborted, this.#answer(request)])
  }

  async #answer(request) {
    await this.#travel()
    request.signal?.throwIfAborted()
    this.requests.push(request.name)
    const epoch = this.#epoch
    const answer = (await this.refuse(request)) || this.#serve(request)
    await this.#travel()
    if (epoch !== this.#epoch) throw new TypeError("fetch failed")
    return (await this.lose(request)) || answer
  }

  #travel() {
    return new Promise((resolve) => setTimeout(resolve, this.latency))
  }

  #parse(method, { pathname, searchParams }, body, headers, signal) {
    const token = headers.Authorization?.slice("Bearer ".length) ?? searchParams.get("access_token") ?? undefined
    const [kind, ...rest] = pathname.slice("/v1/".length).split("/").map(decodeURIComponent)
    if (kind === "events") {
      const topics = searchParams.getAll("topic")
      const session = searchParams.get("session")
      const since = searchParams.get("last_event_id") ?? ""
      const name = `stream ${topics.join("+")}${session ? " bound" : ""}${since ? ` since ${since.split("-")[1]}` : ""}`
      return { name, topics, session, linger: Number(searchParams.get("linger") ?? 5), since, signal, token }
    }
    if (kind === "sessions") return { name: rest[1], session: rest[0], token }
    const session = method === "PUT" ? JSON.parse(body).session : searchParams.get("session")
    return { name: `${method} ${rest[0]}/${rest[2]}`, method, topic: rest[0], key: rest[2], meta: body && JSON.parse(body).meta, session, token }
  }

  #serve(request) {
    if (request.topics) return this.#stream(request)
    if (request.name === "heartbeat") return this.#renew(request.session) ? json({}) : problem(404, "unknown_session")
    if (request.name === "leave") this.end(request.session)
    if (request.method === "PUT") return this.track(request)
    if (request.method === "DELETE") this.#untrack(request.session, request.topic, request.key)
    return new Response(null, { status: 204 })
  }

  #renew(id, seconds = this.ttl) {
    const session = this.sessions.get(id)
    if (!session) return false
    clearTimeout(session.timer)
    session.renewed = Date.now()
    session.timer = setTimeout(() => session.streams || this.end(id), seconds * 1000)
    return true
  }

  /** Tracks or updates, as PUT does. */
  track({ session: id, topic, key, meta = {} }) {
    if (!this.sessions.has(id)) this.sessions.set(id, { present: new Map(), streams: 0 })
    const { present } = this.sessions.get(id)
    this.#renew(id)
    const place = JSON.stringify([topic, key])
    const before = present.get(place)
    const { phx_ref, phx_ref_prev, ...fields } = before ?? {}
    if (before && JSON.stringify(fields) === JSON.stringify(meta)) return json({ ttl: this.ttl, ref: phx_ref })
    const after = { ...meta, phx_ref: `r${++this.#refs}`, ...(before && { phx_ref_prev: phx_ref }) }
    present.delete(place)
    present.set(place, after)
    this.#publish(topic, key, after, before)
    return json({ ttl: this.ttl, ref: after.phx_ref }, before ? 200 : 201)
  }

  #untrack(id, topic, key) {
    const { present } = this.sessions.get(id) ?? {}
    const place = JSON.stringify([topic, key])
    const meta = present?.get(place)
    if (!meta) return
    present.delete(place)
    this.#publish(topic, key, undefined, meta)
  }

  /** Ends a session, as a leave or the end of its lease does. */
  end(id) {
    for (const place of [...(this.sessions.get(id)?.present.keys() ?? [])]) this.#untrack(id, ...JSON.parse(place))
    clearTimeout(this.sessions.get(id)?.timer)
    this.sessions.delete(id)
  }

  #publish(topic, key, joined, left) {
    const note = (sign, { phx_ref, phx_ref_prev, ...fields }) => this.history.push(`${sign}${topic}/${key} ${JSON.stringify(fields)}`)
    if (left) note("-", left)
    if (joined) note("+", joined)
    const change = (meta) => (meta ? JSON.parse(JSON.stringify({ [key]: { metas: [meta] } })) : {})
    this.publish(topic, { joins: change(joined), leaves: change(left) })
  }

  /** Sends a diff to who watches. */
  publish(topic, payload) {
    const diff = { seq: ++this.#seq, topic, payload }
    this.#diffs.push(diff)
    this.#send([...this.streams].filter((stream) => stream.topics.includes(topic)), this.#frame("presence_diff", topic, payload, diff.seq))
  }

  /** A topic's state as the server has it. */
  state(topic) {
    const state = Object.create(null)
    for (const { present } of this.sessions.values()) {
      for (const [place, meta] of present) {
        const [of, key] = JSON.parse(place)
        if (of === topic) (state[key] ??= { metas: [] }).metas.push(meta)
      }
    }
    return state
  }

  #frame(event, topic, payload, seq) {
    const id = seq === undefined ? "" : `id: ${this.#epoch}-${seq}\n`
    return `event: ${event}\ndata: ${JSON.stringify({ topic, payload })}\n${id}\n`
  }

  /** What a stream starts with: what was missed since an id, or states, of which only the last has an id. */
  beginning({ topics, since }) {
    const [epoch, seq] = since.split("-").map(Number)
    const missed = this.#diffs.filter((diff) => diff.seq > seq && topics.includes(diff.topic))
    if (since && epoch === this.#epoch) return missed.map((diff) => this.#frame("presence_diff", diff.topic, diff.payload, diff.seq))
    return topics.map((topic, i) => this.#frame("presence_state", topic, this.state(topic), i === topics.length - 1 ? this.#seq : undefined))
  }

  #stream(request) {
    const session = this.sessions.get(request.session)
    if (request.session && !session) return problem(404, "unknown_session")
    if (session) session.streams++
    const stream = { ...request }
    const body = new ReadableStream({ start: (controller) => (stream.controller = controller) })
    stream.close = (error) => {
      if (!this.streams.delete(stream)) return
      if (session && !--session.streams && this.sessions.get(request.session) === session) this.#renew(request.session, request.linger)
      if (error) stream.controller.error(error)
      else stream.controller.close()
    }
    this.streams.add(stream)
    request.signal.addEventListener("abort", () => stream.close(request.signal.reason))
    this.#send([stream], this.beginning(request).join("") + "retry: 1000\n\n")
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } })
  }

  #send(streams, text) {
    for (const stream of streams) if (!stream.stalled) stream.controller.enqueue(new TextEncoder().encode(text))
  }

  /** Ends the leases that nothing has renewed in the last two seconds. */
  expire() {
    for (const [id, { streams, renewed }] of this.sessions) if (!streams && Date.now() - renewed > 2000) this.end(id)
  }

  /** Breaks all streams. */
  cut() {
    for (const stream of this.streams) stream.close(new TypeError("terminated"))
  }

  /** Lets a connection stay open and carry nothing. */
  stall() {
    for (const stream of this.streams) stream.stalled = true
  }

  /** Comes back without anything that it knew; silently, clients do not hear that their connections broke. */
  restart(silently) {
    if (silently) this.streams.clear()
    this.cut()
    for (const { timer } of this.sessions.values()) clearTimeout(timer)
    for (const topic of new Set(this.#diffs.map((diff) => diff.topic))) this.history.push(`lost ${topic}`)
    this.sessions.clear()
    this.#diffs = []
    this.#seq = 0
    this.#epoch++
  }
}

export const json = (value, status = 200, headers = {}) => new Response(JSON.stringify(value), { status, headers })

export const problem = (status, code, headers) => json({ title: "", status, code, detail: `it is ${code}` }, status, headers)
