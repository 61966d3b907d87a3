import { RollcallError } from "./http.js"
import type { Http } from "./http.js"
import { Presence } from "./presence.js"
import type { State } from "./presence.js"
import { fetchStream } from "./stream.js"
import type { StreamRequest } from "./stream.js"

/** What a tab asks of the leader. */
export interface TabRequest extends StreamRequest {
  tab: string
  /** Counts the tab's requests; what is said to an earlier one is void. */
  call: number
}

/** What is said to all tabs. */
export type Announcement =
  | { type: "attach"; request: TabRequest; others: TabRequest[] }
  | { type: "detach"; tab: string; call: number }
  | { type: "lead"; term: number }
  | { type: "tick"; tab: string }

/** What the leader of a term says to one tab. */
export type Reply = { term: number; call: number } & (
  | { type: "heard"; others: TabRequest[] }
  | { type: "wait" }
  | { type: "states"; states: [topic: string, state: State][]; id: string; retry: number }
  | { type: "event"; topic: string; name: string; payload: any; id: string }
  | { type: "alive" }
  | { type: "failed"; message: string; status: number; code: string; retryAfter: number }
  | { type: "alone" })

/** The lock that a tab holds while it lives. */
export const lockOf = (group: string, tab: string) => `${group} ${tab}`

// Milliseconds.
const most = 10_000 // between renewals; a third of the lease if that is less
const beat = 1000 // between looks at what is due
const silence = 40_000 // a living stream has a comment every 15 s
const idle = 1000 // how long the stream stays open for nobody

/** A tab as the leader knows it. */
interface Follower {
  request: TabRequest
  channel: BroadcastChannel
  /** Ends the wait for its lock. */
  watch: AbortController
  /** Whether it waits for, or gets, what it asked for. */
  attached: boolean
  /** Whether the server is known to have its session. */
  known: boolean
  /** Whether it has the states of its topics, and so gets events. */
  live: boolean
  /** When it died, or 0. */
  died: number
}

/** One stream and what came of it. */
interface Carrier {
  topics: string[]
  abort: AbortController
  states: Map<string, State>
  /** The last id that an event had, and whether no event without came after, so that it tells exactly what is in `states`. */
  id: string
  exact: boolean
  /** What the server says about reconnecting; undefined until all that was missed has come. */
  retry: number | undefined
  lastByte: number
  /** Whether `states` and `id` are a place that a successor can go on from. */
  whole: boolean
}

/**
 * The leader's half of a shared stream: one stream, bound to no session, for the topics of all tabs; and one heartbeat for all their sessions.
 *
 * A stream that is to carry more goes on until its successor has caught up, so that nobody suffers if the server refuses that. Tabs whose topics it
 * refuses are sent to open a stream of their own and hear why there.
 */
export class Leader {
  #http: Http
  #group: string
  #term: number
  #channel: BroadcastChannel
  #followers = new Map<string, Follower>()
  #current: Carrier | undefined // has caught up
  #next: Carrier | undefined // has not
  #last: Carrier | undefined // broke off; its successor may go on from there
  #renewing = false
  #renewed = Date.now()
  #careful = false // the server refuses something that some tab wants: add one tab at a time
  #surplus = false // whether the last tick found topics that nobody wants
  #told = 0 // when tabs last heard that the stream lives
  #timer: ReturnType<typeof setInterval>
  #closed = false

  /** `others` are what a leader before may have been asked; some who asked may be dead, or have a dialog open and cannot ask again. */
  constructor(http: Http, group: string, term: number, others: Iterable<TabRequest>) {
    this.#http = http
    this.#group = group
    this.#term = term
    this.#channel = new BroadcastChannel(group)
    this.#channel.onmessage = ({ data }) => this.#hear(data)
    this.#timer = setInterval(() => this.#tick(), beat)
    for (const request of others) this.#follow(request)
    this.#announce({ type: "lead", term })
    this.#open()
    void this.#renew()
  }

  /** Ends the stream and lets another lead. */
  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
    for (const follower of this.#followers.values()) this.#forget(follower)
    this.#stop()
    this.#channel.close()
  }

  #hear(message: Announcement): void {
    if (message.type === "attach") this.#attach(message.request, message.others)
    else if (message.type === "detach") this.#detach(message.tab, message.call)
    else if (message.type === "tick") this.#answer(message.tab)
  }

  #attach(request: TabRequest, others: TabRequest[]): void {
    for (const other of others) this.#follow(other)
    const follower = Object.assign(this.#follow(request), fresh(request))
    for (const other of this.#followers.values()) this.#acknowledge(other, other === follower ? this.#requests() : [request])
    this.#open()
    this.#welcome(follower)
    void this.#renew()
  }

  /** A tab asks whether we still answer. Its timers may be quicker than ours. */
  #answer(tab: string): void {
    const follower = this.#followers.get(tab)
    if (follower) this.#acknowledge(follower, [])
    this.#tick()
  }

  /** Tells a tab that we answer, and what others ask: it must know when it leads one day. */
  #acknowledge(follower: Follower, requests: TabRequest[]): void {
    this.#reply(follower, { type: "heard", others: requests.filter(({ tab }) => tab !== follower.request.tab) })
  }

  #detach(tab: string, call: number): void {
    const follower = this.#followers.get(tab)
    if (follower?.request.call !== call) return
    this.#forget(follower)
    if (!this.#requests(true).length) setTimeout(() => this.#requests(true).length || this.#stop(), idle)
  }

  #follow(request: TabRequest): Follower {
    const { tab } = request
    let follower = this.#followers.get(tab)
    if (follower) return follower
    follower = { ...fresh(request), channel: new BroadcastChannel(lockOf(this.#group, tab)), watch: new AbortController(), died: 0 }
    this.#followers.set(tab, follower)
    const { signal } = follower.watch
    navigator.locks.request(lockOf(this.#group, tab), { signal }, () => this.#bury(follower)).catch(() => {}) // forgotten
    return follower
  }

  #forget(follower: Follower): void {
    follower.attached = false
    follower.watch.abort()
    follower.channel.close()
    this.#followers.delete(follower.request.tab)
  }

  /** A tab died without a word. Its session lives on for as long as one whose stream broke off, and then is ended. */
  #bury(follower: Follower): void {
    const { session, linger } = follower.request
    if (this.#followers.get(follower.request.tab) !== follower) return
    if (!session) return this.#forget(follower)
    follower.died = Date.now()
    follower.live = false
    setTimeout(() => this.#tick(), linger * 1000)
  }

  #endDead(): void {
    for (const follower of [...this.#followers.values()]) {
      const { tab, call, session, linger } = follower.request
      if (!follower.died || Date.now() < follower.died + linger * 1000) continue
      const returned = [...this.#followers.values()].some((other) => other !== follower && other.request.session === session)
      if (!returned) this.#http.request("POST", `/sessions/${session}/leave`).catch(() => {}) // else its lease ends it
      this.#forget(follower)
      this.#announce({ type: "detach", tab, call })
    }
  }

  /** What tabs ask for: all that are known, or only those who are here. */
  #requests(here = false): TabRequest[] {
    return [...this.#followers.values()].filter((follower) => !here || isHere(follower)).map(({ request }) => request)
  }

  /** Sees to it that there is a stream for what the tabs ask for. */
  #open(narrow = false): void {
    if (isDead(this.#next)) this.#next = end(this.#next)
    if (isDead(this.#current)) this.#current = end(this.#current)
    const topics = this.#wanted()
    if (this.#closed || !topics.length || this.#next || (!narrow && covers(this.#current, topics))) return
    const resumed = !this.#current && covers(this.#last, topics) ? this.#last : undefined
    this.#last = undefined
    this.#hold()
    this.#next = {
      topics, abort: new AbortController(), states: resumed?.states ?? new Map(), id: resumed?.id ?? "", exact: !!resumed?.exact, whole: !!resumed,
      retry: undefined, lastByte: Date.now(),
    }
    void this.#carry(this.#next)
  }

  /**
   * Gives tabs nothing more until the next stream has caught up or failed. Whatever they have came before the next stream was asked for, and so its states
   * are never older.
   */
  #hold(): void {
    const carrier = this.#current
    for (const follower of this.#followers.values()) {
      if (!follower.live) continue
      this.#reply(follower, { type: "wait" })
      follower.live = false
      follower.request.lastEventId = carrier?.exact ? carrier.id : ""
    }
  }

  /** The topics that the next stream is to carry. */
  #wanted(): string[] {
    const requests = this.#requests(true)
    const waiting = requests.find(({ topics }) => !covers(this.#current, topics))
    const wanted = this.#careful && waiting ? [...(this.#current?.topics ?? []), ...waiting.topics] : requests.flatMap(({ topics }) => topics)
    if (!waiting) this.#careful = false
    return [...new Set(wanted)].sort()
  }

  async #carry(carrier: Carrier): Promise<void> {
    const request = { topics: carrier.topics, session: undefined, linger: 0, lastEventId: carrier.id }
    const sink = {
      alive: () => this.#alive(carrier),
      event: (topic: string, name: string, payload: any, id: string) => this.#event(carrier, topic, name, payload, id),
      caughtUp: (retry: number) => this.#caughtUp(carrier, retry),
    }
    let error = new RollcallError("the stream ended")
    try {
      await fetchStream(this.#http, request, sink, carrier.abort.signal)
    } catch (thrown) {
      error = thrown as RollcallError
    }
    if (!carrier.abort.signal.aborted) this.#broke(carrier, error)
  }

  #alive(carrier: Carrier): void {
    carrier.lastByte = Date.now()
    if (carrier !== this.#current) return
    this.#tick() // timers are slow in tabs that nobody looks at, bytes are not
    if (Date.now() - this.#told < most / 2) return
    this.#told = Date.now()
    for (const follower of this.#followers.values()) if (follower.live) this.#reply(follower, { type: "alive" })
  }

  #event(carrier: Carrier, topic: string, name: string, payload: any, id: string): void {
    carrier.exact = !!id
    carrier.id = id || carrier.id
    if (carrier === this.#current) {
      for (const follower of this.#followers.values()) {
        if (follower.live && follower.request.topics.includes(topic)) this.#reply(follower, { type: "event", topic, name, payload, id })
      }
    }
    const empty: State = Object.create(null)
    if (name === "presence_state") carrier.states.set(topic, Presence.syncState(empty, payload))
    if (name === "presence_diff") carrier.states.set(topic, Presence.syncDiff(carrier.states.get(topic) ?? empty, payload))
  }

  #caughtUp(carrier: Carrier, retry: number): void {
    carrier.retry = retry
    carrier.whole = true
    if (carrier !== this.#next) return
    end(this.#current)
    this.#current = carrier
    this.#next = this.#last = undefined
    this.#open() // for who came meanwhile
    this.#welcomeAll()
  }

  #welcomeAll(): void {
    for (const follower of this.#followers.values()) this.#welcome(follower)
  }

  /** Gives a tab the states of its topics, once they and its session are there. */
  #welcome(follower: Follower): void {
    const { request, live, known } = follower
    const carrier = this.#current
    if (!carrier || this.#next || live || !known || !isHere(follower) || !covers(carrier, request.topics)) return
    const has = carrier.exact && request.lastEventId === carrier.id
    const states = has ? [] : request.topics.map((topic): [string, State] => [topic, carrier.states.get(topic) ?? {}])
    this.#reply(follower, { type: "states", states, id: carrier.exact ? carrier.id : "", retry: carrier.retry! })
    follower.live = true
  }

  #broke(carrier: Carrier, error: RollcallError): void {
    const here = [...this.#followers.values()].filter(isHere)
    if (carrier.whole) this.#last = carrier
    if (carrier === this.#current) {
      this.#current = undefined
      for (const follower of here) if (follower.live) this.#fail(follower, error)
      return
    }
    this.#next = undefined
    const waiting = here.filter(({ request }) => !covers(this.#current, request.topics))
    const refused = waiting.filter(({ request }) => covers(carrier, request.topics))
    if (!error.temporary && refused.length > 1 && !this.#careful) this.#careful = true
    else for (const follower of error.temporary ? waiting : refused) this.#fail(follower, error)
    this.#open()
    this.#welcomeAll()
  }

  /** Tells a tab why it gets nothing more. What the server refuses may be another tab's fault: then the tab is to ask by itself. */
  #fail(follower: Follower, error: RollcallError): void {
    const { message, status, code, retryAfter } = error
    const own = error.temporary || code === "unknown_session"
    this.#reply(follower, own ? { type: "failed", message, status, code, retryAfter } : { type: "alone" })
    follower.attached = follower.live = false
  }

  #tick(): void {
    this.#endDead()
    if (Date.now() - this.#renewed < this.#interval()) return
    this.#renewed = Date.now()
    void this.#renew(true)
    this.#open()
    const surplus = !!this.#current && !covers({ topics: this.#requests(true).flatMap((request) => request.topics) }, this.#current.topics)
    if (surplus && this.#surplus) this.#open(true)
    this.#surplus = surplus
  }

  #interval(): number {
    return Math.min(most, ...this.#requests(true).map(({ ttl = 30 }) => (ttl * 1000) / 3))
  }

  /** Renews the leases of all sessions, or of those that the server may not have. */
  async #renew(all = false): Promise<void> {
    if (this.#renewing) return
    this.#renewing = true
    const due = [...this.#followers.values()].filter((follower) => isHere(follower) && follower.request.session && (all || !follower.known))
    const asked = new Map(due.map((follower) => [follower, follower.request]))
    if (due.length) {
      const failed = await this.#heartbeats([...asked.values()].map(({ session }) => session!))
      for (const [follower, request] of asked) if (follower.request === request && isHere(follower)) this.#renewedOne(follower, failed(request.session!))
    }
    this.#renewing = false
    if (due.length && [...this.#followers.values()].some((follower) => isHere(follower) && !follower.known)) void this.#renew()
  }

  #renewedOne(follower: Follower, error: RollcallError | undefined): void {
    if (!error) {
      follower.known = true
      this.#welcome(follower)
    } else if (error.temporary && follower.known) this.#renewed += Math.max(0, 1000 - this.#interval()) // again, soon
    else this.#fail(follower, error)
  }

  /** Renews leases, and returns a function that tells why one was not. */
  async #heartbeats(sessions: string[]): Promise<(session: string) => RollcallError | undefined> {
    for (let again = false; ; again = true) {
      try {
        const answer = await this.#http.request("POST", "/heartbeats", { sessions })
        const { unknown } = (await answer.json()) as { unknown: string[] }
        return (session) => (unknown.includes(session) ? new RollcallError("the session has ended", 404, "unknown_session") : undefined)
      } catch (error) {
        if (again || !(error as RollcallError).temporary) return () => error as RollcallError
      }
    }
  }

  #stop(): void {
    this.#last = this.#current
    this.#next = end(this.#next)
    this.#current = end(this.#current)
  }

  #reply(follower: Follower, reply: any): void {
    follower.channel.postMessage({ ...reply, term: this.#term, call: follower.request.call })
  }

  #announce(announcement: Announcement): void {
    this.#channel.postMessage(announcement)
  }
}

const fresh = (request: TabRequest) => ({ request, attached: true, known: !request.session, live: false })

const isHere = (follower: Follower) => follower.attached && !follower.died

const covers = (carrier: Pick<Carrier, "topics"> | undefined, topics: string[]) => !!carrier && topics.every((topic) => carrier.topics.includes(topic))

function end(carrier: Carrier | undefined): undefined {
  carrier?.abort.abort()
}

const isDead = (carrier: Carrier | undefined) => !!carrier && Date.now() - carrier.lastByte > silence
