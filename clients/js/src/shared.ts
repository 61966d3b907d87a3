import { RollcallError } from "./http.js"
import type { Http } from "./http.js"
import { Leader, lockOf } from "./leader.js"
import type { Announcement, Reply, TabRequest } from "./leader.js"
import { fetchStream } from "./stream.js"
import type { Sink, StreamRequest, Transport } from "./stream.js"

export interface SharedOptions {
  /** Only tabs that give the same name share: give one for each user if the tabs may be different users'. Default "rollcall". */
  name?: string
}

// Milliseconds.
const interval = 5000 // between questions whether the leader still answers
const patience = 1000 // how long we may wait for a new leader's or a new stream's states before what we have is stale
const deaf = 3000 // a leader that has not answered by then, or by twice as long, has a dialog open or is frozen
const idle = 5000 // how long we stay among the tabs without a stream

/**
 * Makes a transport for `connect` that shares one stream among all tabs of this origin that are on the same server: over HTTP/1.1 browsers open no more
 * than six connections to a host. Each tab is still a session of its own. One tab leads: it holds the stream and renews the sessions of all; when it goes,
 * another takes over. Where there are no Web Locks or no BroadcastChannel, as on pages without TLS and in Node, each has its own stream.
 */
export function sharedStream({ name = "rollcall" }: SharedOptions = {}): Transport {
  const tabs = new WeakMap<Http, Tab>() // one for each client that has this transport
  return async (http, request, sink, signal) => {
    let tab = tabs.get(http)
    if (!tab) tabs.set(http, (tab = new Tab(http, `${name} ${http.base}`)))
    const entered = await tab.enter()
    signal.throwIfAborted() // the client does not wait for us, and has asked for something else
    if (!entered) return fetchStream(http, request, sink, signal)
    const alone = await tab.stream(request, sink, signal)
    if (alone) return fetchStream(http, { ...request, lastEventId: "" }, sink, signal)
  }
}

/** One client's place among the tabs that share. */
class Tab {
  #http: Http
  #group: string
  #id = ""
  #entered: Promise<boolean> | undefined
  #idle: ReturnType<typeof setTimeout> | undefined
  #left = new AbortController()
  #candidacy = new AbortController()
  #all: BroadcastChannel | undefined // announcements of all
  #own: BroadcastChannel | undefined // what the leader says to us
  #calls = 0
  #term = 0 // of the latest leader that we heard of
  #others = new Map<string, TabRequest>()
  #onLead = () => {}
  #onReply = (_: Reply) => {}

  constructor(http: Http, group: string) {
    this.#http = http
    this.#group = group
    const page = globalThis as Partial<typeof globalThis>
    page.addEventListener?.("pagehide", () => this.#leave()) // nothing with a lock or a channel goes to the back/forward cache
  }

  /** Takes our place; false if that cannot be. */
  enter(): Promise<boolean> {
    clearTimeout(this.#idle)
    return (this.#entered ??= this.#enter())
  }

  #enter(): Promise<boolean> {
    const { navigator: { locks } = {}, BroadcastChannel: Channel, addEventListener: inPage } = globalThis as Partial<typeof globalThis>
    if (!locks || !Channel || !inPage) return Promise.resolve(false)
    const id = (this.#id = crypto.randomUUID())
    this.#candidacy = new AbortController()
    const { signal } = (this.#left = new AbortController())
    const left = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))
    return new Promise((resolve) => {
      const entered = () => {
        void this.#stand(signal)
        resolve(true)
        return left
      }
      const refused = () => {
        this.#leave()
        resolve(false)
      }
      try {
        this.#all = new Channel(this.#group)
        this.#own = new Channel(lockOf(this.#group, id))
        this.#all.onmessage = ({ data }) => this.#hear(data)
        this.#own.onmessage = ({ data }) => this.#take(data)
        locks.request(lockOf(this.#group, id), entered).catch(refused)
      } catch {
        refused() // some pages, such as sandboxed ones, have locks and channels but may not use them
      }
    })
  }

  /** Gives up our place, and the lead if we have it. */
  #leave(): void {
    clearTimeout(this.#idle)
    this.#left.abort()
    this.#candidacy.abort()
    this.#all?.close()
    this.#own?.close()
    this.#all = this.#own = this.#entered = undefined
    this.#others.clear()
  }

  /** Stands for leader until we leave: leads when the leader before is gone, or overthrows one who does not answer. */
  async #stand(left: AbortSignal): Promise<void> {
    while (!left.aborted) {
      let leader: Leader | undefined
      const lead = () => {
        leader = new Leader(this.#http, this.#group, Math.max(Date.now(), this.#term + 1), this.#others.values())
        return new Promise<void>((resolve) => left.addEventListener("abort", () => resolve(leader!.close())))
      }
      const overthrow = this.#candidacy.signal.aborted
      const { signal } = (this.#candidacy = new AbortController())
      await navigator.locks.request(this.#group, overthrow ? { steal: true } : { signal }, lead).catch(() => {}) // withdrawn or overthrown
      leader?.close()
    }
  }

  /** Has the leader carry a request. Returns whether we are to ask the server ourselves. */
  stream(request: StreamRequest, sink: Sink, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.reject(signal.reason) // while we entered
    clearTimeout(this.#idle)
    const call = ++this.#calls
    const asked: TabRequest = { ...request, tab: this.#id, call }
    const left = this.#left.signal
    let live = false
    let late: ReturnType<typeof setTimeout> | undefined
    let unanswered: ReturnType<typeof setTimeout> | undefined
    const ask = (announcement: Announcement) => {
      unanswered ??= setTimeout(() => this.#candidacy.abort(), deaf * (1 + Math.random()))
      this.#announce(announcement)
    }
    const answered = () => {
      clearTimeout(unanswered)
      unanswered = undefined
    }
    const attach = (others: Iterable<TabRequest> = []) => ask({ type: "attach", request: asked, others: [...others] })
    const ticks = setInterval(() => ask({ type: "tick", tab: asked.tab }), interval)

    return new Promise<boolean>((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(late)
        answered()
        clearInterval(ticks)
        signal.removeEventListener("abort", aborted)
        this.#onLead = this.#onReply = () => {}
        this.#announce({ type: "detach", tab: asked.tab, call })
        this.#idle = setTimeout(() => this.#leave(), idle)
        settle()
      }
      const aborted = () => end(() => reject(signal.reason))
      const fail = (error: RollcallError) => end(() => reject(error))

      const pause = () => {
        if (live) late = setTimeout(() => fail(new RollcallError("the tab that holds the connection is late")), patience)
        live = false
      }

      this.#onLead = () => {
        answered()
        pause()
        attach(this.#others.values()) // a leader that was overthrown cannot ask for itself
      }
      this.#onReply = (reply) => {
        if (reply.call !== call) return
        answered()
        if (reply.type === "heard") {
          for (const other of reply.others) this.#others.set(other.tab, other)
          return
        }
        if (reply.type === "wait") return pause()
        sink.alive()
        if (reply.type === "states") {
          live = true
          clearTimeout(late)
          asked.lastEventId = reply.id
          for (const [topic, state] of reply.states) sink.event(topic, "presence_state", state, reply.id)
          sink.caughtUp(reply.retry)
        } else if (reply.type === "event" && live) {
          asked.lastEventId = reply.id
          sink.event(reply.topic, reply.name, reply.payload, reply.id)
        } else if (reply.type === "failed") {
          fail(new RollcallError(reply.message, reply.status, reply.code, reply.retryAfter))
        } else if (reply.type === "alone") {
          end(() => resolve(true))
        }
      }
      signal.addEventListener("abort", aborted)
      attach()
    })
  }

  #hear(announcement: Announcement): void {
    if (announcement.type === "attach") this.#others.set(announcement.request.tab, announcement.request)
    else if (announcement.type === "detach") {
      if (this.#others.get(announcement.tab)?.call === announcement.call) this.#others.delete(announcement.tab)
    } else if (announcement.type === "lead") this.#recognize(announcement.term)
  }

  /** Turns to a new leader. Its first answer may come before the news that it leads. */
  #recognize(term: number): void {
    if (term <= this.#term) return
    this.#term = term
    this.#onLead()
  }

  #take(reply: Reply): void {
    this.#recognize(reply.term)
    if (reply.term === this.#term) this.#onReply(reply) // else from a leader that was overthrown and does not know it
  }

  #announce(announcement: Announcement): void {
    this.#all?.postMessage(announcement)
  }
}
