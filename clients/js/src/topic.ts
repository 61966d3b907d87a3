import type { Client } from "./client.js"
import { RollcallError } from "./http.js"
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

let refs = 0

/** Calls what the page gave us. What it throws is the page's, and must end neither the stream nor a change halfway: it is a rejection that nobody handles. */
export const call = async <A extends unknown[]>(callback: ((...args: A) => void) | undefined, ...args: A): Promise<void> => callback?.(...args)


/** One topic of a client: who is in it, and whether we are. Phoenix's `Presence` takes it for a channel. */
export class Topic implements Channel {
  readonly name: string
  /**
   * Whether the presences may be out of date: before the first state has come, and while the connection is lost. Otherwise they are what the server has.
   */
  stale = true
  /** The presences by key. It changes in place. */
  state: State = Object.create(null)

  /** @internal What the server may have us as: the meta by key, "" where only the next answer will tell. */
  readonly tracked_ = new Map<string, string>()
  #client: Client
  #wanted: Member | undefined // what we are to be
  #accepted: Member | undefined // the last of that that the server took
  #watching = false
  #callbacks = new Set<[event: string, callback: Callback]>()
  #ref: string | undefined
  #own: string | undefined // the ref of the meta that the server has of us
  #waiters: ((error?: unknown) => void)[] = []
  #pushing = false
  #user: { join?: OnChange; leave?: OnChange; update?: OnUpdate; sync?: () => void } = {}

  /** @internal */
  constructor(client: Client, name: string) {
    this.#client = client
    this.name = name
  }

  /**
   * Be present in the topic, and watch it; under another key or with another meta than before if those are new. Resolves when the server has it, however
   * long that takes; rejects when the server will not take it, and then what was before goes on.
   */
  join(member: Member): Promise<void> {
    return this.#want(member)
  }

  /** Replace the meta. */
  update(meta: Record<string, unknown>): Promise<void> {
    if (!this.#wanted) return Promise.reject(new Error("join first"))
    return this.#want({ key: this.#wanted.key, meta })
  }

  /** Be present no longer, and stop watching unless `watch` was called. */
  leave(): Promise<void> {
    return this.#want()
  }

  /** Watch the topic, present or not. */
  watch(): this {
    this.#watching = true
    this.#client.kick_()
    return this
  }

  /** Stop watching; who has joined is present, and watches, until `leave`. */
  unwatch(): this {
    this.#watching = false
    this.#client.kick_()
    return this
  }

  /** The presences as an array, each as `choose` makes it. */
  list<T = Entry>(choose?: (key: string, entry: Entry) => T): T[] {
    return Presence.list(this.state, choose)
  }

  /** How many people there are, on how many devices. */
  get count(): { keys: number; metas: number } {
    return { keys: this.list().length, metas: this.list((_, entry) => entry.metas).flat().length }
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
    const entry: [string, Callback] = [event, callback]
    this.#callbacks.add(entry)
    if (event === "presence_state" && this.#ref) {
      const { state } = this
      const copy = structuredClone(state) // diffs may come before it does, but no other state
      queueMicrotask(() => state === this.state && callback(copy))
    }
    return () => this.#callbacks.delete(entry)
  }

  /** Another one after each state that does not follow on what came before; undefined until such a state has come. */
  joinRef(): string | undefined {
    return this.#ref
  }

  /** @internal */
  get active_(): unknown {
    return this.#watching || this.#wanted || this.tracked_.size
  }

  /** @internal A stream begins that starts with a state. */
  restart_(): void {
    this.#ref = undefined
  }

  /** @internal */
  receive_(event: string, payload: State | Diff): void {
    const isState = event === "presence_state"
    const joined = new Map<string, Meta[]>()
    const onJoin: OnChange = (key, current, entry) => {
      joined.set(key, entry.metas)
      call(this.#user.join, key, current, entry)
    }
    const onLeave: OnChange = (key, current, entry) => {
      call(this.#user.leave, key, current, entry)
      const metas = joined.get(key) ?? []
      for (const before of entry.metas) {
        if (before.phx_ref === this.#own && this.tracked_.get(key)) {
          this.tracked_.set(key, "") // we left, without our knowing
          void this.push_()
        }
        // What changed more than once in between does not name the one that we knew.
        const isOnly = metas.length * entry.metas.length === 1
        const meta = metas.find(({ phx_ref_prev: prev }) => prev && (isOnly || prev === before.phx_ref))
        if (meta) call(this.#user.update, key, meta, before)
      }
    }
    this.state = (isState ? Presence.syncState : Presence.syncDiff)(this.state, payload as State & Diff, onJoin, onLeave)
    if (isState) this.#ref ??= String(++refs)
    call(this.#user.sync)
    this.#emit(event, payload)
  }

  /** @internal While others are out of our sight, the server may lose what it had of us. */
  setStale_(stale: boolean): void {
    if (stale) this.doubt_()
    else void this.push_()
    if (this.stale === stale) return
    this.stale = stale
    this.#emit("stale", stale)
    call(this.#user.sync)
  }

  #emit(event: string, payload: unknown): void {
    for (const [of, callback] of this.#callbacks) if (of === event) call(callback, structuredClone(payload)) // Phoenix's Presence changes it
  }

  /** @internal The next push says all again that the server has of us. */
  doubt_(): void {
    for (const key of this.tracked_.keys()) this.tracked_.set(key, "")
  }

  /** @internal */
  close_(): void {
    this.#wanted = undefined
    this.#settle(new RollcallError("client closed"))
  }

  #want(member?: Member): Promise<void> {
    this.#wanted = member
    const done = new Promise<void>((resolve, reject) => this.#waiters.push((error) => (error ? reject(error) : resolve())))
    done.catch(() => {}) // whoever does not wait does not want to know
    if (this.#client.status === "closed") this.close_()
    else void this.push_()
    return done
  }

  /** @internal Makes the server's idea of us what it should be. There is one of these at a time, so that requests do not overtake one another. */
  async push_(): Promise<void> {
    if (this.#pushing) return
    this.#pushing = true
    await null // what is wanted and no longer wanted in one go is never said
    for (let failures = 0; ; ) {
      const wanted = this.#wanted
      let isNew: boolean | undefined
      let key: string | undefined
      try {
        const meta = wanted?.meta ?? {}
        const json = JSON.stringify(meta)
        const track = wanted && this.tracked_.get(wanted.key) !== json
        key = track ? wanted.key : [...this.tracked_.keys()].find((key) => key !== wanted?.key)
        if (key === undefined) break
        isNew = !this.tracked_.has(key)
        this.tracked_.set(key, "")
        if (track) {
          this.#own = await this.#client.track_(this.name, key, meta)
          this.tracked_.set(key, json)
        } else {
          await this.#client.untrack_(this.name, key)
          this.tracked_.delete(key)
        }
        failures = 0
        this.#client.kick_()
      } catch (error: any) {
        if (error.temporary || !this.#waiters[0]) {
          this.#client.kick_()
          await this.#client.pause_(failures++, error)
          continue
        }
        if (isNew) this.tracked_.delete(key!)
        if (this.#wanted === wanted) {
          this.#wanted = this.#accepted
          this.#settle(error)
        }
      }
    }
    this.#pushing = false
    this.#accepted = this.#wanted
    this.#settle()
    this.#client.kick_()
  }

  #settle(error?: unknown): void {
    for (const settle of this.#waiters.splice(0)) settle(error)
  }
}
