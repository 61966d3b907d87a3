import assert from "node:assert/strict"
import { test } from "node:test"
import fc from "fast-check"
import { Origin } from "../testing/origin.mjs"

const room = "room"

/** Opens tabs that join a room as Alice. */
async function open(origin, count) {
  const tabs = Array.from({ length: count }, () => origin.open().join(room, "Alice"))
  await origin.settle()
  return tabs
}

/** Fails unless the tabs and the server agree that these tabs are there, and nobody has seen anything untrue on the way. */
function agree(origin, tabs, topic = room) {
  origin.check()
  assert.equal(origin.server.devices(topic), tabs.length)
  for (const tab of tabs) {
    assert.equal(tab.client.status, "live")
    assert.equal(tab.client.topic(topic).stale, false)
    assert.equal(tab.refs(topic), origin.server.refs(topic))
  }
}

const neverStale = (tabs) => tabs.forEach((tab) => assert.ok(!tab.shown(room).includes("stale"), "a tab was stale"))

test("tabs share one stream, and each is a session of its own", async () => {
  const origin = new Origin(1)
  const tabs = await open(origin, 12)
  agree(origin, tabs)
  neverStale(tabs)
  assert.equal(origin.server.streams.size, 1)
  assert.equal(origin.server.sessions.size, 12)
})

test("one heartbeat in ten seconds renews them all", async () => {
  const origin = new Origin(2)
  const tabs = await open(origin, 12)
  origin.server.requests.length = 0
  await origin.advance(60_000)
  assert.deepEqual([...new Set(origin.server.requests)], ["POST /heartbeats"])
  assert.ok(origin.server.requests.length <= 6, `${origin.server.requests.length} heartbeats`)
  await origin.advance(300_000)
  agree(origin, tabs)
  neverStale(tabs)
})

test("where timers do not run, heartbeats follow the stream's bytes", async () => {
  const origin = new Origin(3)
  const tabs = await open(origin, 3)
  for (const tab of tabs) tab.throttle()
  await origin.advance(300_000)
  agree(origin, tabs)
})

test("tabs that close leave at once, the leader first", async () => {
  const origin = new Origin(4)
  const tabs = await open(origin, 12)
  while (tabs.length > 1) {
    tabs.shift().close()
    await origin.settle()
    agree(origin, tabs)
    neverStale(tabs)
    assert.equal(origin.server.streams.size, 1)
  }
})

test("a tab that crashes is gone after its linger, be it a follower or the leader", async () => {
  const origin = new Origin(5)
  const [leader, follower, ...tabs] = await open(origin, 5)
  follower.crash()
  await origin.advance(9000)
  assert.equal(origin.server.devices(room), 5)
  await origin.advance(2000)
  agree(origin, [leader, ...tabs])
  leader.crash()
  await origin.advance(9000)
  assert.equal(origin.server.devices(room), 4)
  await origin.advance(2000)
  agree(origin, tabs)
  neverStale(tabs)
})

test("a leader that does not answer is overthrown, and follows when it wakes", async () => {
  const origin = new Origin(6)
  const tabs = await open(origin, 4)
  const leader = origin.leader()
  const others = tabs.filter((tab) => tab !== leader)
  leader.block()
  others.push(origin.open().join(room, "Bob")) // who asks notices
  await origin.advance(60_000)
  assert.ok(origin.leader() !== leader)
  origin.check()
  for (const tab of others) assert.equal(tab.refs(room), origin.server.refs(room))
  leader.unblock()
  await origin.advance(5000)
  agree(origin, [leader, ...others])
  assert.equal(origin.server.streams.size, 1)
})

test("a tab that wants another topic does not disturb the rest", async () => {
  const origin = new Origin(7)
  const tabs = await open(origin, 4)
  tabs[2].join("attic", "Bob")
  const guest = origin.open().join("attic", "Carol").watch(room)
  await origin.settle()
  origin.check()
  neverStale(tabs)
  for (const tab of [tabs[2], guest]) for (const topic of [room, "attic"]) assert.equal(tab.refs(topic), origin.server.refs(topic))
  assert.equal(origin.server.streams.size, 1)

  tabs[2].client.topic("attic").leave()
  tabs[2].client.topic("attic").unwatch()
  guest.close()
  await origin.advance(40_000)
  agree(origin, tabs)
  neverStale(tabs)
  assert.deepEqual([...origin.server.streams].map(({ topics }) => topics), [[room]], "nobody wants the attic")
})

test("what the server refuses one tab, it refuses only that tab", async () => {
  const origin = new Origin(8)
  origin.server.refuse = (topics) => (topics.includes("secret") ? [403, "forbidden"] : undefined)
  const tabs = await open(origin, 3)
  const curious = origin.open().watch("secret")
  await origin.settle()
  assert.equal(curious.client.error?.code, "forbidden")
  assert.equal(curious.client.topic("secret").stale, true)
  agree(origin, tabs)
  neverStale(tabs)

  origin.leader().close()
  await origin.advance(3000)
  agree(origin, tabs.filter((tab) => !tab.dead))
})

test("tabs that ask at once for what is refused and what is not get what is not", async () => {
  const origin = new Origin(9)
  origin.server.refuse = (topics) => (topics.includes("secret") ? [403, "forbidden"] : undefined)
  const curious = Array.from({ length: 3 }, () => origin.open().watch("secret"))
  const tabs = await open(origin, 5)
  await origin.advance(5000)
  agree(origin, tabs)
  for (const tab of curious) assert.equal(tab.client.error?.code, "forbidden")
  assert.equal(origin.server.streams.size, 1)
})

test("a refused token is every tab's to know", async () => {
  const origin = new Origin(10)
  let refused = true
  origin.server.refuse = () => (refused ? [401, "unauthenticated"] : undefined)
  const tabs = Array.from({ length: 3 }, () => origin.open().watch(room))
  await origin.settle()
  for (const tab of tabs) assert.deepEqual([tab.client.status, tab.client.error?.status], ["waiting", 401])
  refused = false
  await origin.advance(60_000)
  for (const tab of tabs) assert.deepEqual([tab.client.status, tab.client.error], ["live", undefined])
})

test("a lost connection reaches every tab, and so does the next one", async () => {
  const origin = new Origin(11)
  const tabs = await open(origin, 6)
  origin.server.down = true
  origin.server.cut()
  await origin.advance(3000)
  for (const tab of tabs) {
    assert.equal(tab.client.status, "waiting")
    assert.equal(tab.client.topic(room).stale, true)
  }
  origin.server.down = false
  await origin.advance(20_000)
  agree(origin, tabs)
  assert.equal(origin.server.streams.size, 1)
})

test("a server that lost everything gets it back from every tab", async () => {
  const origin = new Origin(12)
  const tabs = await open(origin, 6)
  origin.server.restart()
  await origin.advance(20_000)
  agree(origin, tabs)
  for (const tab of tabs) assert.ok(tab.shown(room).includes("stale"))
  assert.equal(origin.server.streams.size, 1)
})

test("a page that returns from the back/forward cache returns as a new session", async () => {
  const origin = new Origin(13)
  const tabs = await open(origin, 3)
  const leader = origin.leader()
  const others = tabs.filter((tab) => tab !== leader)
  leader.hide()
  await origin.settle()
  agree(origin, others)
  neverStale(others)
  assert.equal(origin.holds(leader), 0, "a page with locks or channels would not be kept")
  leader.show()
  await origin.settle()
  agree(origin, tabs)
  assert.equal(leader.sessions.size, 2)
})

test("without locks each tab has its own stream", async () => {
  const origin = new Origin(14)
  const tabs = Array.from({ length: 3 }, () => origin.open({ locks: false }).join(room, "Alice"))
  await origin.settle()
  agree(origin, tabs)
  assert.equal(origin.server.streams.size, 3)
})

const topics = ["a", "b", "c"]
const tab = fc.nat(100)
const topic = fc.constantFrom(...topics)
const ms = fc.nat(20_000)
const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("open"), topics: fc.subarray(topics, { minLength: 1 }), key: fc.constantFrom("Alice", "Bob", "__proto__") }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("join", "leave", "update"), tab, topic }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("close", "crash", "hide", "show"), tab }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("block", "throttle"), tab, ms: fc.nat(60_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("outage", "cut", "restart"), ms: fc.nat(4000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait"), ms }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("settle") }) },
)

const there = (origin) => origin.tabs.filter((tab) => !tab.ended)

/** What may happen, to one of the tabs that it can happen to. */
const actions = {
  open: (origin, tab, { topics, key }) => {
    const opened = there(origin).length < 8 ? origin.open() : tab
    for (const topic of topics) opened.join(topic, key)
  },
  join: (_, tab, { topic }) => tab?.join(topic, "Alice"),
  leave: (_, tab, { topic }) => tab?.leave(topic),
  update: (_, tab, { topic }) => tab?.joined.has(topic) && tab.join(topic, tab.joined.get(topic), { n: Math.random() }),
  close: (_, tab) => tab?.close(),
  crash: (_, tab) => tab?.crash(),
  hide: (_, tab) => tab?.hide(),
  show: (origin, _, { tab }) => {
    const hidden = origin.tabs.filter(({ ended, dead }) => ended && !dead)
    hidden[tab % hidden.length]?.show()
  },
  block: async (origin, tab, { ms }) => {
    await origin.settle()
    if (there(origin).length < 2 || tab.client.status !== "live") return // nobody could take over, or would know of it
    tab.block()
    await origin.advance(ms)
    tab.unblock()
  },
  throttle: async (origin, tab, { ms }) => {
    await origin.settle()
    if (tab?.client.status !== "live") return // what waits for a timer would wait for it
    tab.throttle()
    await origin.advance(ms)
    tab.unthrottle()
  },
  outage: async (origin, _, { ms }) => {
    origin.server.down = true
    origin.server.cut()
    await origin.advance(ms)
    origin.server.down = false
  },
  cut: (origin) => origin.server.cut(),
  restart: (origin) => origin.server.restart(),
  wait: (origin, _, { ms }) => origin.advance(ms),
  settle: (origin) => origin.settle(),
}

test("whatever happens, tabs show what is so, nobody flickers, and in the end all agree", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.array(action, { minLength: 5, maxLength: 40 }), async (seed, steps) => {
      const origin = new Origin(seed)
      for (const step of steps) {
        const tabs = there(origin)
        await actions[step.do](origin, tabs[step.tab % tabs.length] ?? tabs[0], step)
        origin.check()
      }
      await origin.advance(120_000)
      origin.check()
      for (const topic of topics) {
        assert.equal(origin.server.devices(topic), there(origin).filter((tab) => tab.joined.has(topic)).length)
        for (const tab of there(origin)) {
          if (!tab.shown(topic)) continue
          assert.equal(tab.refs(topic), origin.server.refs(topic))
          assert.equal(tab.client.topic(topic).stale, false)
        }
      }
      assert.equal(origin.server.streams.size, Math.min(1, there(origin).length))
    }),
    { numRuns: Number(process.env.RUNS ?? 50) },
  )
})
