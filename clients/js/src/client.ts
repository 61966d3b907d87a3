import { Http, RollcallError } from "./http.js"
import type { Token } from "./http.js"
import { fetchStream } from "./stream.js"
import type { Sink, StreamRequest, Transport } from "./stream.js"
import { call, Topic } from "./topic.js"

export interface Options {
  /** A token, or a function that returns one and is called again when the server no longer takes the last. */
  token?: Token
  /** Whole seconds that others see us after connection lost. Default 10, at most 60; with 0 we also flicker when topics are added. */
  linger?: number
  /** Carries the events; see `rollcall/shared`. Default: one streaming fetch. */
  transport?: Transport
  /** Used in place of the global fetch. */
  fetch?: typeof fetch
}

// Milliseconds.
const longestDelay = 30_000
const second = 1000 // the shortest delay, and how often we look at the clock
const patience = 1500 // how long a stream may take to replace another before what we have is stale
const answer = 10_000 // how long it may take to begin
const silence = 40_000 // a living one has a comment every 15 s

/** Connects to a rollcall server. Nothing is sent before a topic is joined or watched. */
export function connect(url = "", options: Options = {}): Client {
  return new Client(url, options)
}

/** A connection to a server: one session, and one stream for all topics. */
export class Client {
  /** `idle` without topics, `live` with a stream, `waiting` for the next try. */
  status: "idle" | "connecting" | "live" | "waiting" | "closed" = "idle"
  /** What kept the last try from succeeding. */
  error: RollcallError | undefined
  /** Called when `status` has changed. */
  onStatus: ((status: Client["status"]) => void) | undefined

  /** @internal */ readonly http_: Http
  #linger: number
  #transport: Transport
  #topics = new Map<string, Topic>()
  #session = newSession()
  #ttl = 30
  #known: string | undefined // our session, if the server has it, as far as we know
  #running = false
  #suspended = false
  #failures = 0
  #firstDelay = second // the server may say another
  #last: StreamRequest = { topics: [] as string[] } as StreamRequest // stream, and the last event that came
  #lastByte = 0
  #lastLive = 0
  #lastRenewal = 0
  #abort = new AbortController() // of the last stream
  #pauses = new Map<() => void, boolean>()
  #gone = new AbortController() // ends the listeners

  /** @internal */
  constructor(url: string, options: Options) {
    this.http_ = new Http(url, options.token, options.fetch ?? ((...args) => fetch(...args)))
    this.#linger = options.linger ?? 10
    this.#transport = options.transport ?? fetchStream
    const on = (type: string, listener: () => void) => globalThis.addEventListener?.(type, listener, { signal: this.#gone.signal })
    on("pagehide", () => this.#suspend())
    on("pageshow", () => this.#resume())
    on("offline", () => this.#lose())
    on("online", () => this.#look())
    on("visibilitychange", () => this.#look()) // comes up from the document
  }

  /** The topic of this name; the same object each time. */
  topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (!topic) this.#topics.set(name, (topic = new Topic(this, name)))
    return topic
  }

  /** Leaves all topics at once and ends the connection for good. */
  close(): void {
    this.#suspend()
    this.#setStatus("closed")
    this.#gone.abort()
    this.#topics.forEach((topic) => topic.close_())
    this.#wake(true)
  }

  /** @internal Tells the server that we are in a topic. */
  async track_(topic: string, key: string, meta: unknown): Promise<string> {
    const session = this.#session
    const { ttl, ref } = await this.#ask("PUT", path(topic, key), { session, meta })
    if (session !== this.#session) {
      this.http_.beacon(`/sessions/${session}/leave`) // this came after we had left
      throw new RollcallError("page left")
    }
    this.#ttl = ttl || this.#ttl
    this.#known = session
    return ref
  }

  /** @internal Tells the server that we are no longer in a topic. */
  async untrack_(topic: string, key: string): Promise<void> {
    await this.#ask("DELETE", path(topic, key) + "?session=" + this.#session)
  }

  /** @internal Sees to it that the stream carries what it should. */
  kick_(): void {
    this.#topics.forEach((topic) => topic.active_ || topic.setStale_(true))
    if (!this.#running) void this.#run()
    else if (this.#known !== this.#last.session || this.#active().join("\n") !== this.#last.topics.join("\n")) {
      this.#abort.abort(null)
      this.#wake()
    }
  }

  /** @internal Waits before the next try, the longer the more have failed, or until there is news. */
  pause_(failures: number, error: RollcallError): Promise<void> {
    this.error = error
    const delay = Math.min(longestDelay, this.#firstDelay * 2 ** failures) * (1 - Math.random() / 2)
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#pauses.delete(done)
        resolve()
      }
      const timer = setTimeout(done, this.status === "closed" ? 0 : Math.max(delay, error.retryAfter || 0))
      this.#pauses.set(done, !error.retryAfter)
    })
  }

  /** Ends the pauses that the server has not asked for, or all. */
  #wake(all?: boolean): void {
    for (const [done, ours] of this.#pauses) if (all || ours) done()
  }

  /** The names of the topics that the stream should carry. */
  #active(): string[] {
    return [...this.#topics.values()].filter((topic) => topic.active_).map((topic) => topic.name)
  }

  /** The only loop: a stream after a stream, until there is nothing to watch. */
  async #run(): Promise<void> {
    this.#running = true
    const timer = setInterval(() => this.#tick(), second)
    await null // what is watched in one go is asked for in one go
    while (!this.#suspended && this.#active().length) {
      const error = await this.#stream()
      if (!error) continue
      this.#stale()
      this.#setStatus("waiting")
      this.#heed(error)
      await this.pause_(this.#failures++, error)
    }
    clearInterval(timer)
    this.#running = false
    this.#known = undefined
    this.#setStatus("idle")
  }

  /** Runs one stream. Returns why it ended, or null if it was to carry something else. */
  async #stream(): Promise<RollcallError | null> {
    const topics = this.#active()
    let { lastEventId } = this.#last
    if (topics.some((topic) => !this.#last.topics.includes(topic))) {
      lastEventId = ""
      topics.forEach((topic) => this.topic(topic).restart_())
    }
    const request = (this.#last = { topics, session: this.#known, ttl: this.#ttl, linger: this.#linger, lastEventId })
    const abort = (this.#abort = new AbortController())
    const { signal } = abort
    const sink: Sink = {
      alive: () => {
        this.#lastByte = Date.now()
      },
      event: (name, event, payload, id) => {
        if (signal.aborted) return
        request.lastEventId = id
        this.#topics.get(name)?.receive_(event, payload)
      },
      caughtUp: (retry) => {
        if (signal.aborted) return
        this.#failures = 0
        this.#firstDelay = retry > second ? retry : second
        this.error = undefined
        topics.forEach((topic) => this.topic(topic).setStale_(false))
        this.#setStatus("live")
        this.#look()
      },
    }
    sink.alive()
    this.#setStatus("connecting")
    try {
      await Promise.race([this.#transport(this.http_, request, sink, signal), new Promise((_, reject) => (signal.onabort = reject))])
      return new RollcallError("stream ended")
    } catch (error: any) {
      return signal.aborted ? signal.reason : error
    } finally {
      abort.abort()
    }
  }

  #stale(): void {
    this.#topics.forEach((topic) => topic.setStale_(true))
  }

  /** Starts our session anew if the server no longer has it. */
  #heed({ code }: RollcallError): void {
    if (code !== "unknown_session") return
    this.#known = undefined
    this.#failures = 0 // it did answer
    this.#topics.forEach((topic) => {
      topic.doubt_()
      topic.push_()
    })
  }

  /** Looks at what timers would miss while the machine sleeps. */
  #tick(): void {
    const now = Date.now()
    const live = this.status === "live"
    if (live) this.#lastLive = this.#lastRenewal = now
    if (now - this.#lastLive > patience) this.#stale()
    if (this.#known && now - this.#lastRenewal > Math.min(this.#linger, this.#ttl) * 333) {
      this.#lastRenewal = now
      this.#ask("POST", `/sessions/${this.#session}/heartbeat`).catch((error) => this.#heed(error))
    }
    if (now - this.#lastByte > (live ? silence : answer)) this.#lose()
  }

  /** There is news: what waits may try again. */
  #look(): void {
    this.#tick()
    this.#wake()
  }

  /** Gives up a stream that is dead. */
  #lose(): void {
    this.#abort.abort(new RollcallError("connection lost"))
  }

  #setStatus(status: Client["status"]): void {
    if (this.status === status || this.status === "closed") return
    this.status = status
    call(this.onStatus, status)
  }

  async #ask(method: string, path: string, body?: unknown): Promise<any> {
    if (this.#suspended) throw new RollcallError("page left")
    const answer = await this.http_.request(method, path, body)
    return answer.json().catch(() => ({}))
  }

  /** The page goes away: leave at once. */
  #suspend(): void {
    this.#suspended = true
    if ([...this.#topics.values()].some((topic) => topic.tracked_.size)) this.http_.beacon(`/sessions/${this.#session}/leave`)
    this.#topics.forEach((topic) => topic.tracked_.clear())
    this.#session = newSession()
    this.#known = undefined
    this.#stale()
    this.#abort.abort(null)
  }

  /** The page is back from the back/forward cache. */
  #resume(): void {
    if (!this.#suspended) return
    this.#suspended = false
    this.#topics.forEach((topic) => topic.push_())
    this.#look()
  }
}

const path = (topic: string, key: string) => "/topics/" + [topic, "presences", key].map(encodeURIComponent).join("/")

/** 128 random bits. */
const newSession = () => crypto.getRandomValues(new Uint32Array(4)).join("-")
