/** One device of one key, as others see it: the refs are the server's, the rest is the client's. */
export interface Meta {
  phx_ref: string
  phx_ref_prev?: string
  [field: string]: unknown
}

/** A key's devices, oldest first. */
export interface Entry {
  metas: Meta[]
}

/** A topic's presences by key. It has no prototype, so that `__proto__` and `constructor` are keys like others. */
export type State = Record<string, Entry>

/** A topic's change. A meta that was updated is in both, under its old ref in `leaves` and its new one in `joins`. */
export interface Diff {
  joins: State
  leaves: State
}

/** Called for a key whose devices came (`current` is what it had before, if anything) or went (`current` is what it has left). */
export type OnChange = (key: string, current: Entry | undefined, changed: Entry) => void

/** What `Presence` needs of a topic: ours and Phoenix's channels have it. */
export interface Channel {
  on(event: string, callback: (payload: any) => void): unknown
  joinRef(): string | undefined
}

export interface PresenceOptions {
  events?: { state: string; diff: string }
}

const nothing = () => {}

/**
 * Follows a topic's presences: Phoenix's `Presence`, with the same surface and the same behaviour. Unlike Phoenix's it copies nothing but what changed, so
 * a diff costs the same in a room of ten and of ten thousand.
 */
export class Presence {
  state = bare({})
  pendingDiffs: Diff[] = []
  joinRef: string | null | undefined = null
  caller: { onJoin: OnChange; onLeave: OnChange; onSync: () => void } = { onJoin: nothing, onLeave: nothing, onSync: nothing }
  channel: Channel

  constructor(channel: Channel, opts: PresenceOptions = {}) {
    this.channel = channel
    const events = opts.events || { state: "presence_state", diff: "presence_diff" }
    channel.on(events.state, (state: State) => {
      this.joinRef = channel.joinRef()
      this.state = Presence.syncState(this.state, state, this.caller.onJoin, this.caller.onLeave)
      for (const diff of this.pendingDiffs) this.#apply(diff)
      this.pendingDiffs = []
      this.caller.onSync()
    })
    channel.on(events.diff, (diff: Diff) => {
      if (this.inPendingSyncState()) {
        this.pendingDiffs.push(diff)
        return
      }
      this.#apply(diff)
      this.caller.onSync()
    })
  }

  #apply(diff: Diff): void {
    this.state = Presence.syncDiff(this.state, diff, this.caller.onJoin, this.caller.onLeave)
  }

  /** Sets what is called for each key whose devices came. */
  onJoin(callback: OnChange): void {
    this.caller.onJoin = callback
  }

  /** Sets what is called for each key whose devices went. */
  onLeave(callback: OnChange): void {
    this.caller.onLeave = callback
  }

  /** Sets what is called after each event, when all of it is in. */
  onSync(callback: () => void): void {
    this.caller.onSync = callback
  }

  /** The presences as an array, each as `choose` makes it. */
  list<T = Entry>(choose?: (key: string, entry: Entry) => T): T[] {
    return Presence.list(this.state, choose)
  }

  /** Whether diffs are held back because the state that they build on has not come yet. */
  inPendingSyncState(): boolean {
    return !this.joinRef || this.joinRef !== this.channel.joinRef()
  }

  /** Makes `next` of `current`, reports what joined and left on the way, and returns the result. `current` stays as it is. */
  static syncState(current: State, next: State, onJoin?: OnChange, onLeave?: OnChange): State {
    const state = bare({})
    const joins = bare({})
    const leaves = bare({})
    next = bare(next)
    for (const [key, before] of Object.entries(current)) {
      state[key] = { ...before } // a diff changes entries in place
      if (!next[key]) leaves[key] = before
    }
    for (const [key, entry] of Object.entries(next)) {
      const before = state[key]
      const joined = without(entry.metas, before)
      const left = before ? without(before.metas, entry) : []
      if (!before || joined.length) joins[key] = { ...entry, metas: joined }
      if (left.length) leaves[key] = { ...before, metas: left }
    }
    return Presence.syncDiff(state, { joins, leaves }, onJoin, onLeave)
  }

  /** Takes `diff` into `state` and returns it: `state` itself, changed, if it has no prototype, and else a copy without. */
  static syncDiff(state: State, diff: Diff, onJoin: OnChange = nothing, onLeave: OnChange = nothing): State {
    if (Object.getPrototypeOf(state)) state = bare(state)
    for (const [key, joined] of Object.entries(diff.joins)) {
      const current = state[key]
      state[key] = { ...joined, metas: [...without(current?.metas ?? [], joined), ...joined.metas] }
      onJoin(key, current, joined)
    }
    for (const [key, left] of Object.entries(diff.leaves)) {
      const current = state[key]
      if (!current) continue
      current.metas = without(current.metas, left)
      onLeave(key, current, left)
      if (!current.metas.length) delete state[key]
    }
    return state
  }

  /** The presences of `state` as an array, each as `choose` makes it. */
  static list<T = Entry>(state: State, choose: (key: string, entry: Entry) => T = (_, entry) => entry as T): T[] {
    return Object.keys(state).map((key) => choose(key, state[key]!))
  }
}

/** A copy of `state` that has nothing but its own keys. */
const bare = (state: State): State => Object.assign(Object.create(null), state)

/** Those of `metas` whose refs are not among another entry's. */
function without(metas: Meta[], other: Entry | undefined): Meta[] {
  if (!other) return metas
  const refs = new Set(other.metas.map((meta) => meta.phx_ref))
  return metas.filter((meta) => !refs.has(meta.phx_ref))
}
