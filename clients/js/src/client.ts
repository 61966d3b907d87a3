import { Http, RollcallError } from "./http.js"
import type { Token } from "./http.js"
import { fetchStream } from "./stream.js"
import type { Sink, Transport } from "./stream.js"
import { Topic } from "./topic.js"
import type { Member } from "./topic.js"

export interface Options {
  /** A token, or a function that returns one and is called again when the server no longer takes the last. */
  token?: Token
  /** Seconds that others see us after the connection is lost. Default 10, at most 60. */
  linger?: number
  /** Carries the events; see `rollcall/shared`. Default: one streaming fetch. */
  transport?: Transport
  /** Used in place of the global fetch. */
  fetch?: typeof fetch
}

// Milliseconds.
const longestDelay = 30_000
const silence = 40_000 // a living stream has a comment every 15 s
const heartbeat = 10_000 // a third of the server's default lease
const patience = 1000 // how long a stream may take to replace another before what we have is stale

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

  #http: Http
  #options: Required<Pick<Options, "linger" | "transport">>
  #topics = new Map<string, Topic>()
  #session = newSession()
  #refs = 0
  #running = false
  #suspended = false
  #failures = 0
  #firstDelay = 1000 // what the server says
  #carried = "" // what the open stream carries
  #lastEventId = ""
  #lastTopics: string[] = [] // that lastEventId speaks of
  #lastByte = 0
  #abort: AbortController | undefined
  #wake: (() => void) | undefined
  #listeners: (() => void)[] = []

  /** @internal */
  constructor(url: string, options: Options) {
    this.#http = new Http(url, options.token, options.fetch ?? ((...args) => fetch(...args)))
    this.#options = { linger: options.linger ?? 10, transport: options.transport ?? fetchStream }
    this.#listen()
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
    for (const stop of this.#listeners) stop()
    this.#setStatus("closed")
  }

  /** @internal */
  nextRef_(): string {
    return String(++this.#refs)
  }

  /** @internal Tells the server that we are in a topic. */
  async track_(topic: string, { key, meta }: Member): Promise<void> {
    const session = this.#session
    await this.#http.request("PUT", path(topic, key), { session, meta: meta ?? {} })
    if (session !== this.#session) throw new RollcallError("the page went away") // and has a new session if it is back
  }

  /** @internal Tells the server that we are no longer in a topic. */
  async untrack_(topic: string, key: string): Promise<void> {
    await this.#http.request("DELETE", path(topic, key) + "?session=" + this.#session)
  }

  /** @internal Sees to it that the stream carries what it should. */
  kick_(now = false): void {
    if (this.#suspended) return
    for (const topic of this.#topics.values()) if (!topic.active_) topic.setStale_(true)
    if (!this.#running) void this.#run()
    else if (this.#abort && this.#carried !== this.#wanted().join()) this.#abort.abort()
    else if (now) this.#wake?.()
  }

  /** @internal A request failed that may succeed later: it is made again when a stream is open, or in a while if one is. */
  retry_(error: RollcallError): void {
    this.error = error
    this.#failures++
    if (this.status === "live") setTimeout(() => this.#pushAll(), this.#delay())
  }

  /** What the stream should carry: the topics and, first, our session, if there is one. */
  #wanted(): string[] {
    const active = [...this.#topics.values()].filter((topic) => topic.active_).map((topic) => encodeURIComponent(topic.name)).sort()
    return active.length ? [this.#present() ? this.#session : "", ...active] : []
  }

  /** Whether the server has us anywhere. */
  #present(): boolean {
    return [...this.#topics.values()].some((topic) => topic.tracked_)
  }

  /** The only loop: a stream after a stream, until there is nothing to watch. */
  async #run(): Promise<void> {
    if (!this.#wanted().length) return
    this.#running = true
    const timer = setInterval(() => this.#tick(), heartbeat)
    while (!this.#suspended && this.#wanted().length) {
      this.#setStatus("connecting")
      const failed = await this.#stream()
      if (this.#suspended || !failed) continue
      this.#fail(failed)
      await new Promise<void>((resolve) => setTimeout((this.#wake = resolve), this.#delay()))
    }
    this.#running = false
    clearInterval(timer)
    if (this.status !== "closed") this.#setStatus("idle")
  }

  /** Runs one stream. Returns why it ended, or nothing if it was to carry something else. */
  async #stream(): Promise<RollcallError | undefined> {
    const [session, ...names] = this.#wanted()
    const topics = names.map(decodeURIComponent)
    this.#carried = [session, ...names].join()
    const resumes = topics.every((topic) => this.#lastTopics.includes(topic))
    if (!resumes) {
      this.#lastEventId = ""
      for (const topic of topics) this.topic(topic).restart_()
    }
    this.#lastTopics = topics
    this.#lastByte = Date.now()
    const abort = (this.#abort = new AbortController())
    const late = setTimeout(() => this.#stale(), patience)
    const request = { topics, session: session || undefined, linger: this.#options.linger, lastEventId: this.#lastEventId }
    try {
      await this.#options.transport(this.#http, request, this.#sink(topics, late), abort.signal)
      throw new RollcallError("the stream ended")
    } catch (error) {
      const { aborted, reason } = abort.signal
      return aborted && !(reason instanceof RollcallError) ? undefined : (error as RollcallError)
    } finally {
      clearTimeout(late)
      this.#abort = undefined
    }
  }

  /** Gives up a stream that is dead. */
  #lose(): void {
    this.#abort?.abort(new RollcallError("the connection is lost"))
  }

  #sink(topics: string[], late: ReturnType<typeof setTimeout>): Sink {
    return {
      alive: () => {
        this.#lastByte = Date.now()
      },
      event: (name, event, payload, id) => {
        if (id) this.#lastEventId = id
        this.#topics.get(name)?.receive_(event, payload)
      },
      caughtUp: (retry) => {
        clearTimeout(late)
        this.#failures = 0
        this.#firstDelay = retry
        this.error = undefined
        this.#setStatus("live")
        for (const topic of topics) this.#topics.get(topic)?.setStale_(false)
        this.#pushAll()
      },
    }
  }

  #fail(error: RollcallError): void {
    this.error = error
    this.#stale()
    this.#setStatus("waiting")
    if (error.code === "unknown_session") this.#forgotten()
    else if (this.#failures) this.#beat()
    this.#failures++
  }

  #stale(): void {
    for (const topic of this.#topics.values()) topic.setStale_(true)
  }

  /** The server no longer has our session: say again where we are. */
  #forgotten(): void {
    for (const topic of this.#topics.values()) topic.tracked_ = undefined
    this.#pushAll()
  }

  #pushAll(): void {
    for (const topic of this.#topics.values()) if (topic.active_) void topic.push_()
  }

  /** Renews our lease: for when no stream does. */
  #beat(): void {
    if (!this.#present()) return
    this.#http.request("POST", `/sessions/${this.#session}/heartbeat`).catch((error) => {
      if (error.code === "unknown_session") this.#forgotten()
    })
  }

  #tick(): void {
    if (this.status !== "live") this.#beat()
    if (Date.now() - this.#lastByte > silence) this.#lose() // we slept, or the other end is gone
  }

  #delay(): number {
    const most = Math.min(longestDelay, this.#firstDelay * 2 ** (this.#failures - 1))
    return Math.max(most * Math.random(), this.error?.retryAfter ?? 0)
  }

  #setStatus(status: Client["status"]): void {
    if (this.status === status) return
    this.status = status
    this.onStatus?.(status)
  }

  /** The page goes away: leave at once. */
  #suspend(): void {
    if (this.#suspended) return
    this.#suspended = true
    if (this.#present()) this.#http.beacon(`/sessions/${this.#session}/leave`)
    this.#session = newSession()
    for (const topic of this.#topics.values()) topic.tracked_ = undefined
    this.#stale()
    this.#abort?.abort()
    this.#wake?.()
  }

  /** The page is back from the back/forward cache. */
  #resume(): void {
    if (!this.#suspended || this.status === "closed") return
    this.#suspended = false
    this.#pushAll()
    this.kick_()
  }

  #listen(): void {
    const on = (target: EventTarget | undefined, type: string, listener: (event: any) => void) => {
      target?.addEventListener?.(type, listener)
      this.#listeners.push(() => target?.removeEventListener?.(type, listener))
    }
    const page = globalThis as unknown as EventTarget
    on(page, "pagehide", () => this.#suspend())
    on(page, "pageshow", () => this.#resume())
    on(page, "online", () => this.#wake?.())
    on(page, "offline", () => this.#lose())
    on(globalThis.document, "visibilitychange", () => {
      this.#tick()
      this.#wake?.()
    })
  }
}

const path = (topic: string, key: string) => `/topics/${encodeURIComponent(topic)}/presences/${encodeURIComponent(key)}`

/** 128 random bits. */
const newSession = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(36)).join("-")
