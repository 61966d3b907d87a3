import { createContext, createElement, useContext, useEffect, useMemo, useSyncExternalStore } from "react"
import type { ReactElement, ReactNode } from "react"
import { connect } from "./client.js"
import type { Client } from "./client.js"
import type { RollcallError } from "./http.js"
import type { Meta, State } from "./presence.js"
import type { Member, Topic } from "./topic.js"

/** One key of a topic, with its devices. */
export interface Present {
  key: string
  metas: Meta[]
}

/** What a topic shows at one moment. It does not change; the next moment has its own, and of that only the entries that changed are new. */
export interface Moment {
  list: Present[]
  /** The same by key. It has no prototype. */
  state: State
  count: { keys: number; metas: number }
  /** Whether it may be out of date, as before the first state has come. */
  stale: boolean
  /** Why the server does not have us, if it refused. */
  error: RollcallError | undefined
}

/** Where a key is. */
export interface Whereabouts {
  online: boolean
  topics: string[]
}

// Milliseconds.
const grace = 100 // between unmounting and leaving: who mounts again meanwhile, as in Strict Mode, never left
const refresh = 10_000 // between queries for who is online

const limit = 1000 // keys in a query

const Context = createContext<Client | undefined>(undefined)

let usual: Client | undefined // of pages that have one server, their own, and no provider

/** Gives a client to the hooks below it. Without one they use `connect()`: the server that the page is from. */
export function RollcallProvider({ client, children }: { client: Client; children?: ReactNode }): ReactElement {
  return createElement(Context.Provider, { value: client }, children)
}

/** Watches a topic, and is present in it if `member` is given, until the component goes. Components with the same topic share it. */
export function usePresence(topic: string, member?: Member): Moment & { update(meta: Record<string, unknown>): Promise<void> } {
  const { room: roomOf } = useStores()
  const room = roomOf(topic)
  const json = member && JSON.stringify({ key: member.key, meta: member.meta ?? {} })
  useEffect(() => (json ? room.join(json) : undefined), [room, json])
  const moment = useSyncExternalStore(room.subscribe, room.moment, () => nothing)
  return useMemo(() => ({ ...moment, update: room.update }), [room, moment])
}

/** Tells where keys are, and keeps asking while the page is visible. A key is missing until the first answer. */
export function useOnline(keys: readonly string[]): ReadonlyMap<string, Whereabouts> {
  const { directory } = useStores()
  const wanted = JSON.stringify([...new Set(keys)].sort())
  useEffect(() => directory.want(JSON.parse(wanted)), [directory, wanted])
  const known = useSyncExternalStore(directory.subscribe, directory.known, () => nobody)
  return useMemo(() => {
    const asked = new Set(JSON.parse(wanted))
    return new Map([...known].filter(([key]) => asked.has(key)))
  }, [known, wanted])
}

/** What all components that use a client share. */
interface Stores {
  room(topic: string): Room
  directory: Directory
}

const stores = new WeakMap<Client, Stores>()

function useStores(): Stores {
  const client = useContext(Context) ?? (usual ??= connect())
  let its = stores.get(client)
  if (!its) {
    const rooms = new Map<string, Room>()
    const room = (name: string) => {
      if (!rooms.has(name)) rooms.set(name, new Room(client.topic(name)))
      return rooms.get(name)!
    }
    stores.set(client, (its = { room, directory: new Directory(client) }))
  }
  return its
}

const nothing: Moment = { list: [], state: Object.create(null), count: { keys: 0, metas: 0 }, stale: true, error: undefined }

/** A topic as the components that use it want and see it. */
class Room {
  readonly topic: Topic
  #moment = nothing
  #error: RollcallError | undefined
  #listeners = new Set<() => void>()
  #members: { json: string }[] = [] // that components want to be; the last one counts
  #joined: string | undefined
  #stops: (() => void)[] = []

  constructor(topic: Topic) {
    this.topic = topic
  }

  moment = (): Moment => this.#moment

  update = (meta: Record<string, unknown>): Promise<void> => this.topic.update(meta)

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    this.#settle()
    return () => {
      this.#listeners.delete(listener)
      setTimeout(() => this.#settle(), grace)
    }
  }

  join(json: string): () => void {
    const member = { json }
    this.#members.push(member)
    this.#settle()
    return () => {
      this.#members = this.#members.filter((other) => other !== member)
      setTimeout(() => this.#settle(), grace)
    }
  }

  /** Does what the components that are there want. */
  #settle(): void {
    const { topic } = this
    const json = this.#members.at(-1)?.json
    if (json !== this.#joined) {
      this.#joined = json
      if (json) topic.join(JSON.parse(json)).then(() => this.#answered(json), (error) => this.#answered(json, error))
      else void topic.leave().catch(() => {})
    }
    if (this.#listeners.size && !this.#stops.length) {
      this.#stops = ["presence_state", "presence_diff", "stale"].map((event) => topic.on(event, () => this.#show()))
      topic.watch()
      this.#show()
    } else if (!this.#listeners.size && this.#stops.length) {
      for (const stop of this.#stops.splice(0)) stop()
      topic.unwatch()
      this.#moment = { ...this.#moment, stale: true } // for who comes back later
    }
  }

  #answered(json: string, error?: RollcallError): void {
    if (json !== this.#joined || error === this.#error) return
    this.#error = error
    this.#show()
  }

  /** Makes the moment that is now, of the one before where nothing has changed. */
  #show(): void {
    const { topic } = this
    const state: Record<string, Present> = Object.create(null)
    for (const key of Object.keys(topic.state)) {
      const { metas } = topic.state[key]!
      const before = this.#moment.state[key] as Present | undefined
      state[key] = before?.metas === metas ? before : { key, metas }
    }
    this.#moment = { list: Object.values(state), state, count: topic.count, stale: topic.stale, error: this.#error }
    for (const listener of this.#listeners) listener()
  }
}

const nobody: ReadonlyMap<string, Whereabouts> = new Map()

/** Where the keys are that components ask for. */
class Directory {
  #client: Client
  #known = nobody
  #wanted = new Map<string, number>() // how many components want a key
  #listeners = new Set<() => void>()
  #timer: ReturnType<typeof setInterval> | undefined
  #asking = false
  #page = globalThis.document as Document | undefined

  constructor(client: Client) {
    this.#client = client
  }

  known = (): ReadonlyMap<string, Whereabouts> => this.#known

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  want(keys: string[]): () => void {
    for (const key of keys) this.#wanted.set(key, (this.#wanted.get(key) ?? 0) + 1)
    if (!this.#timer) {
      this.#timer = setInterval(this.#refresh, refresh)
      this.#page?.addEventListener("visibilitychange", this.#refresh)
    }
    void this.#askForNew()
    return () => {
      for (const key of keys) {
        const others = this.#wanted.get(key)! - 1
        if (others) this.#wanted.set(key, others)
        else this.#wanted.delete(key)
      }
      if (this.#wanted.size) return
      clearInterval(this.#timer)
      this.#timer = undefined
      this.#page?.removeEventListener("visibilitychange", this.#refresh)
    }
  }

  #refresh = (): void => {
    if (!this.#page?.hidden) void this.#ask([...this.#wanted.keys()])
  }

  /** Asks for what is not known yet, once for all components that mount together. */
  async #askForNew(): Promise<void> {
    if (this.#asking) return
    this.#asking = true
    await null
    this.#asking = false
    await this.#ask([...this.#wanted.keys()].filter((key) => !this.#known.has(key)))
  }

  async #ask(keys: string[]): Promise<void> {
    for (let i = 0; i < keys.length; i += limit) {
      try {
        const answer = await this.#client.http_.request("POST", "/keys/query", { keys: keys.slice(i, i + limit) })
        this.#learn((await answer.json()) as Record<string, Whereabouts>)
      } catch {
        return // what is known stands until the next refresh
      }
    }
  }

  #learn(answer: Record<string, Whereabouts>): void {
    const news = Object.entries(answer).filter(([key, whereabouts]) => JSON.stringify(whereabouts) !== JSON.stringify(this.#known.get(key)))
    if (!news.length) return
    this.#known = new Map([...[...this.#known].filter(([key]) => this.#wanted.has(key)), ...news])
    for (const listener of this.#listeners) listener()
  }
}
