// Holds our Presence against the one that npm's phoenix publishes.
import assert from "node:assert/strict"
import { test } from "node:test"
import fc from "fast-check"
import { Presence as Phoenix } from "phoenix"
import { Presence } from "../dist/index.js"

const keys = ["ann", "bob", "__proto__", "constructor", "toString", "1", "日本"]
const ref = fc.integer({ min: 1, max: 12 }).map((n) => "ref-" + n)
const meta = fc.record({ phx_ref: ref, status: fc.constantFrom("away", "here") })
const entry = fc.uniqueArray(meta, { minLength: 1, maxLength: 4, selector: (m) => m.phx_ref }).map((metas) => ({ metas }))

// As JSON gives it: an ordinary object, in which even __proto__ is an own property.
const state = fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), entry), { maxLength: 5, selector: ([key]) => key })
  .map((entries) => JSON.parse("{" + entries.map(([key, value]) => JSON.stringify(key) + ":" + JSON.stringify(value)).join() + "}"))
const diff = fc.record({ joins: state, leaves: state })

const copy = (value) => JSON.parse(JSON.stringify(value))

/** A callback that notes what it was called with, as it was at that moment. */
const note = (log, name) => (key, current, changed) => log.push([name, key, current && copy(current), copy(changed)])

const plain = (value) => JSON.stringify(value)

test("syncState and syncDiff are Phoenix's, callbacks and their order included", () => {
  fc.assert(fc.property(state, fc.array(fc.oneof(fc.record({ state }), fc.record({ diff })), { maxLength: 8 }), (start, events) => {
    let ours = copy(start), theirs = copy(start)
    for (const event of events) {
      const ourLog = [], theirLog = []
      if (event.state) {
        ours = Presence.syncState(ours, copy(event.state), note(ourLog, "join"), note(ourLog, "leave"))
        theirs = Phoenix.syncState(theirs, copy(event.state), note(theirLog, "join"), note(theirLog, "leave"))
      } else {
        ours = Presence.syncDiff(ours, copy(event.diff), note(ourLog, "join"), note(ourLog, "leave"))
        theirs = Phoenix.syncDiff(theirs, copy(event.diff), note(theirLog, "join"), note(theirLog, "leave"))
      }
      assert.equal(plain(ours), plain(theirs))
      assert.deepEqual(ourLog, theirLog)
      assert.equal(Object.getPrototypeOf(ours), null)
      assert.deepEqual(Presence.list(ours, (key, { metas }) => [key, metas.length]), Phoenix.list(theirs, (key, { metas }) => [key, metas.length]))
    }
  }), { numRuns: 3000 })
})

test("syncState leaves its arguments as they are", () => {
  fc.assert(fc.property(state, state, (current, next) => {
    const before = plain([current, next])
    Presence.syncState(current, next)
    assert.equal(plain([current, next]), before)
  }))
})

/** A channel that a test speaks through. */
class Channel {
  callbacks = {}
  ref = undefined
  on(event, callback) {
    this.callbacks[event] = callback
  }
  joinRef() {
    return this.ref
  }
}

test("an instance follows a channel as Phoenix's does: diffs before the state, rejoins, other event names", () => {
  const step = fc.oneof(
    fc.record({ state }), fc.record({ diff }), fc.record({ rejoin: fc.constantFrom("1", "2", "3") }),
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, renamed) => {
    const opts = renamed ? { events: { state: "s", diff: "d" } } : undefined
    const sides = [Presence, Phoenix].map((Class) => {
      const channel = new Channel(), log = [], presence = new Class(channel, opts)
      presence.onJoin(note(log, "join"))
      presence.onLeave(note(log, "leave"))
      presence.onSync(() => log.push("sync"))
      return { channel, log, presence }
    })
    for (const step of steps) {
      for (const { channel } of sides) {
        if (step.rejoin) channel.ref = step.rejoin
        if (step.state) channel.callbacks[renamed ? "s" : "presence_state"](copy(step.state))
        if (step.diff) channel.callbacks[renamed ? "d" : "presence_diff"](copy(step.diff))
      }
      const [ours, theirs] = sides
      assert.equal(plain(ours.presence.state), plain(theirs.presence.state))
      assert.deepEqual(ours.log, theirs.log)
      assert.equal(ours.presence.inPendingSyncState(), theirs.presence.inPendingSyncState())
      assert.equal(plain(ours.presence.list()), plain(theirs.presence.list()))
      assert.equal(plain(ours.presence.pendingDiffs), plain(theirs.presence.pendingDiffs))
    }
  }), { numRuns: 1000 })
})

test("the surface is Phoenix's", () => {
  for (const [ours, theirs] of [[Presence, Phoenix], [Presence.prototype, Phoenix.prototype]]) {
    const missing = Object.getOwnPropertyNames(theirs).filter((name) => !(name in ours))
    assert.deepEqual(missing.filter((name) => !["map", "clone", "toNullProtoObj"].includes(name)), [], "besides what Phoenix marks private")
  }
  const fields = (presence) => Object.keys(presence).sort()
  assert.deepEqual(fields(new Presence(new Channel())), fields(new Phoenix(new Channel())))
})

test("a diff touches nothing but the keys that it names", () => {
  const room = Object.create(null)
  const touched = new Set()
  const watched = new Proxy(room, {
    get(target, key) {
      touched.add(key)
      return target[key]
    },
    ownKeys() {
      assert.fail("the whole room was enumerated")
    },
  })
  for (let i = 0; i < 10_000; i++) room["user-" + i] = { metas: [{ phx_ref: "r" + i }] }
  Presence.syncDiff(watched, {
    joins: { "user-1": { metas: [{ phx_ref: "new" }] }, eve: { metas: [{ phx_ref: "x" }] } },
    leaves: { "user-2": { metas: [{ phx_ref: "r2" }] } },
  })
  assert.deepEqual([...touched].sort(), ["eve", "user-1", "user-2"])
  assert.deepEqual(room["user-1"].metas.map((m) => m.phx_ref), ["r1", "new"])
  assert.equal("user-2" in room, false)
})
