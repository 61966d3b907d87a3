import type { Client } from "./client.js"
import { Presence } from "./presence.js"
import type { Channel, Diff, Entry, Meta, OnChange, State } from "./presence.js"

/** Who is present in a topic. */
export interface Member {
  key: string
  meta?: Record<string, unknown>
}

/** Called for a meta that was replaced. */
export type OnUpdate = (key: string, meta: Meta, before: Meta) => void

type Callback = (payload: any) => void

interface Waiter {
  resolve(): void
  reject(error: unknown): void
}

/** One topic of a client: who is in it, and whether we are. Phoenix's `Presence` takes it for a channel. */
export class Topic implements Channel {
  readonly name: string
  /**
   * Whether the presences may be out of date: before the first state has come, and while the connection is lost. Otherwise they are what the server has.
   */
  stale = true

  /** @internal */ wanted_: Member | undefined // what we are to be
  /** @internal */ tracked_: { key: string; json: string } | undefined // what the server has us as
  /** @internal */ watching_ = false
  #client: Client
  #presence: Presence
  #callbacks = new Map<string, Set<Callback>>()
  #ref: string | undefined
  #waiters: Waiter[] = []
  #pushing = false
  #changes: { joins: [string, Entry][]; leaves: [string, Entry][] } = { joins: [], leaves: [] }
  #user: { join?: OnChange; leave?: OnChange; update?: OnUpdate; sync?: () => void } = {}

  /** @internal */
  constructor(client: Client, name: string) {
    this.#client = client
    this.name = name
    this.#presence = new Presence(this)
    this.#presence.onJoin((key, current, joined) => {
      this.#changes.joins.push([key, joined])
      this.#user.join?.(key, current, joined)
    })
    this.#presence.onLeave((key, current, left) => {
      this.#changes.leaves.push([key, left])
      this.#user.leave?.(key, current, left)
    })
    this.#presence.onSync(() => {
      this.#reportUpdates()
      this.#user.sync?.()
    })
  }

  /** Be present in the topic, and watch it. Resolves when the server has it; rejects when the server will not take it. */
  join(member: Member): Promise<void> {
    this.wanted_ = member
    return this.push_()
  }

  /** Replace the meta. */
  update(meta: Record<string, unknown>): Promise<void> {
    if (!this.wanted_) return Promise.reject(new Error(`join ${this.name} before you update`))
    this.wanted_ = { key: this.wanted_.key, meta }
    return this.push_()
  }

  /** Be present no longer, and stop watching unless `watch` was called. */
  leave(): Promise<void> {
    this.wanted_ = undefined
    return this.push_()
  }

  /** Watch the topic, present or not. */
  watch(): this {
    this.watching_ = true
    this.#client.kick_()
    return this
  }

  /** Stop watching; who has joined is present, and watches, until `leave`. */
  unwatch(): this {
    this.watching_ = false
    this.#client.kick_()
    return this
  }

  /** The presences as an array, each as `choose` makes it. */
  list<T = Entry>(choose?: (key: string, entry: Entry) => T): T[] {
    return this.#presence.list(choose)
  }

  /** How many people there are, on how many devices. */
  get count(): { keys: number; metas: number } {
    const entries = this.list()
    return { keys: entries.length, metas: entries.reduce((sum, entry) => sum + entry.metas.length, 0) }
  }

  /** The presences by key. */
  get state(): State {
    return this.#presence.state
  }

  /** Sets what is called for each key whose devices came; of an updated meta, the new one comes. */
  onJoin(callback: OnChange): this {
    this.#user.join = callback
    return this
  }

  /** Sets what is called for each key whose devices went; of an updated meta, the old one goes. */
  onLeave(callback: OnChange): this {
    this.#user.leave = callback
    return this
  }

  /** Sets what is called for each meta that was replaced. */
  onUpdate(callback: OnUpdate): this {
    this.#user.update = callback
    return this
  }

  /** Sets what is called after each change, when all of it is in. */
  onSync(callback: () => void): this {
    this.#user.sync = callback
    return this
  }

  /**
   * Calls back for each `presence_state`, `presence_diff` (with its payload) or `stale` (with whether the topic is now stale). Returns a
   * function that stops it. Who asks for states of a topic that has one gets it right away.
   */
  on(event: string, callback: Callback): () => void {
    let callbacks = this.#callbacks.get(event)
    if (!callbacks) this.#callbacks.set(event, (callbacks = new Set()))
    callbacks.add(callback)
    if (event === "presence_state" && this.#presence && !this.#presence.inPendingSyncState()) {
      queueMicrotask(() => callback(structuredClone(this.state)))
    }
    return () => callbacks.delete(callback)
  }

  /** Changes when diffs no longer follow on what came before: a state comes first. */
  joinRef(): string | undefined {
    return this.#ref
  }

  /** @internal */
  get active_(): boolean {
    return this.watching_ || !!this.wanted_ || !!this.tracked_
  }

  /** @internal A stream begins that starts with a state. */
  restart_(): void {
    this.#ref = this.#client.nextRef_()
  }

  /** @internal */
  receive_(name: string, payload: State | Diff): void {
    this.#emit(name, payload)
    if (name === "presence_state") this.setStale_(false)
  }

  /** @internal */
  setStale_(stale: boolean): void {
    if (this.stale === stale || (!stale && this.#presence.inPendingSyncState())) return
    this.stale = stale
    this.#emit("stale", stale)
  }

  /** @internal Makes the server's idea of us what it should be. */
  push_(): Promise<void> {
    const done = new Promise<void>((resolve, reject) => this.#waiters.push({ resolve, reject }))
    done.catch(() => {}) // whoever does not wait does not want to know
    void this.#pushAll()
    return done
  }

  async #pushAll(): Promise<void> {
    if (this.#pushing) return
    this.#pushing = true
    try {
      while (await this.#pushOne()) this.#client.kick_(true)
      this.#settle()
    } catch (error: any) {
      if (error.temporary) this.#client.retry_(error)
      else {
        const { tracked_: tracked } = this // the server will not have what is wanted, now or later
        this.wanted_ = tracked && { key: tracked.key, meta: JSON.parse(tracked.json) }
        this.#settle(error)
      }
    }
    this.#pushing = false
    this.#client.kick_()
  }

  /** Takes one step towards what is wanted, and tells whether there was one to take. */
  async #pushOne(): Promise<boolean> {
    const { wanted_: wanted, tracked_: tracked } = this
    if (tracked && tracked.key !== wanted?.key) {
      await this.#client.untrack_(this.name, tracked.key)
      this.tracked_ = undefined
      return true
    }
    if (!wanted) return false
    const json = JSON.stringify(wanted.meta ?? {})
    if (tracked?.json === json) return false
    await this.#client.track_(this.name, wanted)
    this.tracked_ = { key: wanted.key, json }
    return true
  }

  #settle(error?: unknown): void {
    for (const waiter of this.#waiters.splice(0)) error ? waiter.reject(error) : waiter.resolve()
  }

  #emit(event: string, payload: unknown): void {
    for (const callback of this.#callbacks.get(event) ?? []) {
      try {
        callback(payload)
      } catch (error) {
        setTimeout(() => { throw error }) // it is the page's, and must not end the stream
      }
    }
  }

  /** Reports the metas that were replaced: those that name the one before, and those that changed more than once in between. */
  #reportUpdates(): void {
    const { joins, leaves } = this.#changes
    this.#changes = { joins: [], leaves: [] }
    if (!this.#user.update) return
    const left = new Map(leaves)
    for (const [key, { metas }] of joins) {
      const gone = left.get(key)?.metas ?? []
      for (const meta of metas) {
        const before = gone.find((m) => m.phx_ref === meta.phx_ref_prev) ?? (metas.length === 1 && gone.length === 1 && meta.phx_ref_prev ? gone[0] : undefined)
        if (before) this.#user.update(key, meta, before)
      }
    }
  }
}
