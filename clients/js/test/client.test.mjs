// The client against a server in memory, on a fake clock: nothing here waits for real time or opens a socket.
import assert from "node:assert/strict"
import { test } from "node:test"
import fc from "fast-check"
import { Presence as Phoenix } from "phoenix"
import { connect, Presence } from "../dist/index.js"
import { Clock, FakeServer, json, problem, settle } from "../testing/fakeserver.mjs"

/** A client in a page of its own, with a server and a clock. */
function setUp(t, options) {
  const clock = new Clock(t)
  const server = new FakeServer()
  const page = new EventTarget()
  globalThis.addEventListener = page.addEventListener.bind(page)
  const client = connect("http://server/", { fetch: server.fetch, ...options })
  delete globalThis.addEventListener
  const fire = (type) => page.dispatchEvent(new Event(type))
  const ann = (topic, meta) => server.track({ session: "ann-somewhere-else", topic, key: "ann", meta })
  const open = async (topics, key = "me") => {
    await Promise.all([...topics.map((topic) => client.topic(topic).join({ key })), clock.advance(100)])
    server.requests.length = server.history.length = 0
    return topics.map((topic) => client.topic(topic))
  }
  return { clock, server, client, fire, ann, open }
}

const plain = (value) => JSON.parse(JSON.stringify(value))
const keys = (topic) => topic.list((key) => key).sort()
const staleLog = (topic, log = []) => (topic.on("stale", (stale) => log.push(stale)), log)

test("who joins is there, sees who else is, and needs one stream", async (t) => {
  const { clock, server, client, ann } = setUp(t)
  ann("room")
  const room = client.topic("room")
  assert.equal(room.stale, true)
  const joined = room.join({ key: "me", meta: { device: "phone" } })
  await clock.advance(100)
  await joined
  assert.deepEqual(server.requests, ["PUT room/me", "stream room bound"])
  assert.deepEqual(plain(room.state), plain(server.state("room")))
  assert.deepEqual([room.stale, client.status, room.count], [false, "live", { keys: 2, metas: 2 }])
})

test("topics that are asked for together share one stream", async (t) => {
  const { clock, server, client } = setUp(t)
  for (const name of ["a", "b,c", "__proto__"]) client.topic(name).watch()
  await clock.advance(50)
  assert.deepEqual(server.requests, ["stream a+b,c+__proto__"])
  client.topic("a").join({ key: "__proto__" })
  client.topic("__proto__").join({ key: "constructor" })
  await clock.advance(100)
  assert.deepEqual([keys(client.topic("a")), keys(client.topic("__proto__"))], [["__proto__"], ["constructor"]])
})

test("what is joined, left and joined again in one go is said once", async (t) => {
  const { clock, server, client } = setUp(t)
  const room = client.topic("room")
  room.join({ key: "me", meta: { n: 1 } })
  room.leave()
  room.join({ key: "me", meta: { n: 2 } })
  await clock.advance(50)
  assert.deepEqual(server.history, ['+room/me {"n":2}'])
})

test("updates while an update is under way: the last follows", async (t) => {
  const { clock, server, open } = setUp(t)
  const [room] = await open(["room"])
  const updated = [1, 2, 3].map(async (n) => (await settle(), room.update({ n })))
  await clock.advance(100)
  await Promise.all(updated)
  assert.deepEqual(server.requests.length <= 2, true)
  assert.equal(server.history.at(-1), '+room/me {"n":3}')
  assert.equal(room.state.me.metas.length, 1)
})

test("leaving during a join leaves", async (t) => {
  const { clock, server, client } = setUp(t)
  const room = client.topic("room")
  const joined = room.join({ key: "me" })
  await settle()
  const left = room.leave()
  await clock.advance(100)
  await Promise.all([joined, left])
  assert.deepEqual(server.history, ["+room/me {}", "-room/me {}"])
  assert.equal(client.status, "idle")
})

test("leaving after a join whose answer was lost leaves no ghost", async (t) => {
  const { clock, server, client } = setUp(t)
  server.lose = ({ method }) => {
    if (method === "PUT") throw new TypeError("fetch failed")
  }
  const room = client.topic("room")
  room.join({ key: "me" })
  await clock.advance(10)
  assert.deepEqual(server.history, ["+room/me {}"])
  room.leave()
  await clock.advance(5000)
  assert.deepEqual(server.history, ["+room/me {}", "-room/me {}"])
})

test("joining under another key: the new one comes before the old one goes", async (t) => {
  const { clock, server, open } = setUp(t)
  const [room] = await open(["room"], "guest")
  room.join({ key: "ann" })
  await clock.advance(100)
  assert.deepEqual(server.history, ["+room/ann {}", "-room/guest {}"])
})

test("what the server refuses rejects, and what was before goes on", async (t) => {
  const { clock, server, open, client } = setUp(t)
  const [room] = await open(["room"])
  server.refuse = ({ method, meta, key }) => method === "PUT" && (meta.bad || key === "boss") && problem(422, "invalid_field")
  const refused = assert.rejects(room.update({ bad: true }), { status: 422, code: "invalid_field", temporary: false })
  await clock.advance(100)
  await refused
  const denied = assert.rejects(room.join({ key: "boss" }), { status: 422 })
  const alsoDenied = assert.rejects(client.topic("hall").join({ key: "boss" }), { status: 422 })
  await clock.advance(100)
  await Promise.all([denied, alsoDenied])
  const updated = room.update({ fine: true })
  await clock.advance(100)
  await updated
  assert.deepEqual(plain(server.state("hall")), {})
  assert.deepEqual(keys(room), ["me"])
  assert.equal(server.history.at(-1), '+room/me {"fine":true}')
  assert.ok(!server.requests.some((request) => request.includes("hall+") || request.endsWith("stream hall")))
})

test("watching sends nothing but the stream, joining and leaving binds it once", async (t) => {
  const { clock, server, client } = setUp(t)
  const room = client.topic("room").watch()
  await clock.advance(30_000)
  assert.deepEqual(server.requests, ["stream room"])
  room.join({ key: "me" })
  await clock.advance(1000)
  room.leave()
  await clock.advance(1000)
  room.join({ key: "me" })
  await clock.advance(1000)
  assert.deepEqual(server.requests, ["stream room", "PUT room/me", "stream room bound since 1", "DELETE room/me", "PUT room/me"])
  client.close()
  await clock.advance(100)
  assert.deepEqual(server.requests.slice(5), ["leave"])
})

test("a short cut: nobody sees us go, we get what we missed, and know that we were out of touch", async (t) => {
  const { clock, server, client, ann, open } = setUp(t)
  const [room] = await open(["room"])
  const stale = staleLog(room)
  const ref = room.joinRef()
  server.cut()
  await settle()
  assert.deepEqual([room.stale, client.status], [true, "waiting"])
  ann("room")
  await clock.advance(3000)
  assert.deepEqual(stale, [true, false])
  assert.deepEqual(keys(room), ["ann", "me"])
  assert.equal(room.joinRef(), ref)
  assert.deepEqual(server.history, ["+room/ann {}"])
  assert.deepEqual(server.requests, ["stream room bound since 1", "PUT room/me"])
})

test("topics come and go without anybody looking stale", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room"])
  const stale = staleLog(room)
  const hall = client.topic("hall").watch()
  await settle()
  hall.unwatch()
  client.topic("attic").watch()
  await clock.advance(100)
  client.topic("attic").unwatch()
  hall.watch()
  await clock.advance(7)
  client.topic("cellar").watch()
  await clock.advance(100)
  assert.deepEqual(stale, [])
  assert.deepEqual([...server.streams].map((stream) => stream.topics), [["room", "hall", "cellar"]])
  assert.deepEqual([hall.stale, client.topic("cellar").stale, client.topic("attic").stale], [false, false, true])
  assert.deepEqual(server.history, [])
})

test("a stream that takes long to be replaced makes what we have stale", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room"])
  const stale = staleLog(room)
  server.latency = 2000
  client.topic("hall").watch()
  await clock.advance(6000)
  assert.deepEqual(stale, [true, false])
})

test("a server that lost everything is told again, under the same session", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room, hall] = await open(["room", "hall"])
  const [session] = server.sessions.keys()
  server.restart()
  await clock.advance(8000)
  assert.deepEqual([...server.sessions.keys()], [session])
  assert.deepEqual(server.history.slice(2).sort(), ["+hall/me {}", "+room/me {}"])
  assert.deepEqual([client.status, room.stale, hall.stale, keys(room), keys(hall)], ["live", false, false, ["me"], ["me"]])
})

test("a session that an update brings back half comes back whole", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room", "hall"])
  server.restart()
  room.update({ n: 1 })
  client.topic("attic").join({ key: "me" })
  await clock.advance(8000)
  for (const topic of ["room", "hall", "attic"]) assert.deepEqual(Object.keys(server.state(topic)), ["me"], topic)
})

test("a server that restarts unnoticed, just before we join another topic, is told of the first one too", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room"])
  server.restart(true)
  client.topic("hall").join({ key: "me" })
  await clock.advance(1000)
  assert.deepEqual([keys(room), keys(client.topic("hall")), room.stale], [["me"], ["me"], false])
})

test("another device of our own key may leave, and we say nothing", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room"])
  const other = { session: "another-device-1234", topic: "room", key: "me", meta: { device: 2 } }
  server.track(other)
  await clock.advance(1000)
  assert.deepEqual(client.topic("room").count, { keys: 1, metas: 2 })
  server.end(other.session)
  await clock.advance(1000)
  assert.deepEqual(room.count, { keys: 1, metas: 1 })
  assert.deepEqual(server.requests, [])
})

test("while no stream can be opened heartbeats keep us there; with one there are none", async (t) => {
  const { clock, server, client, open } = setUp(t)
  await open(["room"])
  await clock.advance(120_000)
  assert.deepEqual(server.requests, [])
  server.refuse = ({ topics }) => topics && problem(503, "draining", { "Retry-After": "20" })
  server.cut()
  await clock.advance(120_000)
  assert.deepEqual(server.history, [])
  const beats = server.requests.filter((request) => request === "heartbeat").length
  assert.ok(beats >= 12 && beats <= 40, `${beats} heartbeats in two minutes`)
  assert.equal(client.error.code, "draining")
})

for (const [what, refuse] of Object.entries({
  "is down": () => { throw new TypeError("fetch failed") },
  "refuses the stream for good": ({ topics }) => topics && problem(403, "forbidden"),
  "finds the topics invalid": ({ topics }) => topics && problem(422, "invalid_field"),
  "fails": () => problem(500, "internal"),
  "fails only when we join": ({ method }) => method && problem(500, "internal"),
  "is full": ({ method }) => method && problem(429, "too_many", { "Retry-After": "nonsense" }),
  "ends each stream at once": ({ topics }) => topics && new Response("retry: 0\n\n"),
  "is something else": () => new Response("<html>", { status: 200 }),
  "answers with nothing": () => new Response(null, { status: 204 }),
  "speaks another language": () => new Response("null", { status: 418 }),
  "forgets us at once": ({ topics, session }) => topics && session && problem(404, "unknown_session"),
})) {
  test(`a server that ${what} is not hammered, and found again`, async (t) => {
    const { clock, server, client } = setUp(t)
    server.refuse = refuse
    const room = client.topic("room").watch()
    const joined = room.join({ key: "me" }).catch((error) => error)
    await clock.advance(120_000)
    assert.ok(server.requests.length < 360, `${server.requests.length} requests in two minutes`)
    server.refuse = () => undefined
    if ((await Promise.race([joined, settle()]))?.temporary === false) room.join({ key: "me" })
    await clock.advance(60_000)
    assert.deepEqual([client.status, room.stale, keys(room)], ["live", false, ["me"]])
  })
}

test("a server that says when to come back is left alone until then", async (t) => {
  const { clock, server, client, fire } = setUp(t)
  server.refuse = () => problem(503, "draining", { "Retry-After": "60" })
  const room = client.topic("room")
  room.join({ key: "me" })
  await clock.advance(59_000)
  const asked = server.requests.length
  fire("online")
  room.update({ n: 1 })
  await clock.advance(900)
  assert.deepEqual([server.requests.length, asked], [2, 2])
  server.refuse = () => undefined
  await clock.advance(2000)
  assert.deepEqual(server.history, ['+room/me {"n":1}'])
})

test("a token function is asked once, and once again when the token has run out", async (t) => {
  let given = 0, valid = "token-1"
  const { clock, server, client, open } = setUp(t, { token: async () => `token-${++given}` })
  server.refuse = ({ token }) => token !== valid && problem(401, "unauthenticated")
  const topics = await open(["a", "b", "c"])
  assert.equal(given, 1)
  valid = "token-2"
  topics.forEach((topic) => topic.update({ n: 1 }))
  await clock.advance(100)
  assert.equal(given, 2)
  assert.deepEqual(topics.map((topic) => topic.state.me.metas[0].n), [1, 1, 1])
  client.close()
  await clock.advance(100)
  assert.equal(server.sessions.size, 0)
})

test("a token that does not do rejects a join, and a token function that fails is asked again", async (t) => {
  let fails = true
  const token = () => { if (fails) throw new Error("not signed in"); return "good" }
  const { clock, server, client } = setUp(t, { token })
  server.refuse = ({ token }) => token !== "good" && problem(401, "unauthenticated")
  const joined = client.topic("room").join({ key: "me" })
  await clock.advance(3000)
  assert.match(client.error.message, /not signed in/)
  fails = false
  await clock.advance(10_000)
  await joined
  const other = connect("http://server", { fetch: server.fetch, token: "bad" })
  const refused = assert.rejects(other.topic("room").join({ key: "you" }), { status: 401 })
  await clock.advance(100)
  await refused
})

test("a tab that closes is gone at once, also in the middle of a join", async (t) => {
  for (const wait of [0, 3, 7, 12, 50]) {
    const { clock, server, client, fire } = setUp(t)
    client.topic("room").join({ key: "me" })
    await settle()
    await clock.advance(wait, 1)
    fire("pagehide")
    await clock.advance(100)
    assert.deepEqual(plain(server.state("room")), {}, `after ${wait} ms`)
    await clock.advance(10_000)
    assert.equal(server.sessions.size, 0)
    t.mock.reset()
  }
})

test("a page that comes back is there again, as a new session, and sends nothing meanwhile", async (t) => {
  const { clock, server, open, fire } = setUp(t)
  const [room] = await open(["room"])
  const [session] = server.sessions.keys()
  fire("pagehide")
  room.update({ n: 1 })
  await clock.advance(20_000)
  assert.deepEqual([server.requests, room.stale], [["leave"], true])
  fire("pageshow")
  await clock.advance(3000)
  assert.deepEqual(server.history, ["-room/me {}", '+room/me {"n":1}'])
  assert.equal(server.sessions.has(session), false)
  assert.deepEqual([room.stale, keys(room)], [false, ["me"]])
})

test("close leaves, ends all that waits, and leaves no timer behind", async (t) => {
  const { clock, server, client, open } = setUp(t)
  const [room] = await open(["room"])
  server.refuse = ({ method }) => method && problem(503, "draining", { "Retry-After": "600" })
  const waiting = assert.rejects(room.update({ n: 1 }), /closed/)
  await clock.advance(100)
  client.close()
  await waiting
  await assert.rejects(room.join({ key: "me" }), /closed/)
  await clock.advance(100)
  assert.deepEqual([client.status, server.sessions.size, server.streams.size, room.stale], ["closed", 0, 0, true])
  server.requests.length = 0
  room.watch()
  await clock.advance(700_000, 1000)
  assert.deepEqual(server.requests, [])
})

test("offline is stale at once, online is back at once", async (t) => {
  const { clock, server, open, fire } = setUp(t)
  const [room] = await open(["room"])
  server.refuse = () => { throw new TypeError("fetch failed") }
  fire("offline")
  await settle()
  assert.equal(room.stale, true)
  await clock.advance(3000)
  server.refuse = () => undefined
  fire("online")
  await clock.advance(50)
  assert.deepEqual([room.stale, server.history], [false, []])
})

test("after a sleep the connection is not trusted", async (t) => {
  const { clock, server, open } = setUp(t)
  const [room] = await open(["room"])
  server.stall()
  for (const id of server.sessions.keys()) server.end(id)
  clock.sleep(3_600_000)
  await clock.advance(6000)
  assert.deepEqual([room.stale, keys(room), server.history], [false, ["me"], ["-room/me {}", "+room/me {}"]])
})

test("a stream that falls silent, or never begins, is given up", async (t) => {
  const { clock, server, open } = setUp(t)
  const [room] = await open(["room"])
  server.stall()
  await clock.advance(39_000)
  assert.deepEqual([server.requests, room.stale], [[], false])
  server.refuse = ({ topics }) => topics && new Promise(() => {})
  await clock.advance(5000)
  assert.equal(room.stale, true)
  server.refuse = () => undefined
  await clock.advance(15_000)
  assert.equal(room.stale, false)
})

test("a request that is never answered is made again", async (t) => {
  const { clock, server, open } = setUp(t)
  const [room] = await open(["room"])
  server.refuse = ({ method }) => method && new Promise(() => {})
  const updated = room.update({ n: 1 })
  await clock.advance(5000)
  server.refuse = () => undefined
  await clock.advance(8000)
  await updated
  assert.deepEqual(server.history, ["-room/me {}", '+room/me {"n":1}'])
})

test("a stream that breaks in the middle of new states starts afresh", async (t) => {
  const { clock, server, ann, open } = setUp(t)
  const [room, hall] = await open(["room", "hall"])
  const joins = []
  room.onJoin((key) => joins.push(key))
  for (const stream of server.streams) stream.stalled = true // too slow: diffs are dropped, and states follow
  ann("room")
  server.end("ann-somewhere-else")
  ann("hall")
  for (const stream of server.streams) {
    stream.controller.enqueue(new TextEncoder().encode(server.beginning({ topics: ["room", "hall"], since: "" })[0]))
  }
  await settle()
  server.cut()
  await clock.advance(5000)
  assert.equal(server.requests[0], "stream room+hall bound")
  assert.deepEqual([joins, keys(room), keys(hall)], [[], ["me"], ["ann", "me"]])
})

test("onUpdate tells the meta before, also of one that changed twice in one diff", async (t) => {
  const { clock, server, ann, open } = setUp(t)
  const [room] = await open(["room"])
  const log = []
  room.onUpdate((key, meta, before) => log.push([key, before.n, meta.n]))
  ann("room", { n: 1 })
  ann("room", { n: 2 })
  await clock.advance(50)
  server.stall()
  ann("room", { n: 3 })
  ann("room", { n: 4 })
  server.cut()
  await clock.advance(3000)
  const [{ phx_ref: old }] = server.state("room").ann.metas
  server.publish("room", {
    joins: { ann: { metas: [{ phx_ref: "x2", phx_ref_prev: "x1", n: 6 }] } }, leaves: { ann: { metas: [{ phx_ref: old, n: 4 }] } },
  })
  await clock.advance(50)
  assert.deepEqual(log, [["ann", 1, 2], ["ann", 2, 3], ["ann", 3, 4], ["ann", 4, 6]])
})

test("a callback that throws is the page's affair, and the state is right", async (t) => {
  const { clock, server, ann, open } = setUp(t)
  const [room] = await open(["room"])
  const thrown = []
  const note = (error) => thrown.push(error.message)
  const before = process.rawListeners("unhandledRejection")
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", note)
  t.after(() => before.reduce((p, listener) => p.on("unhandledRejection", listener), process.removeAllListeners("unhandledRejection")))
  room.onJoin(() => { throw new Error("in onJoin") }).onSync(() => { throw new Error("in onSync") })
  room.on("presence_diff", () => { throw new Error("in on") })
  ann("room")
  await clock.advance(50)
  assert.deepEqual(thrown, ["in onJoin", "in onSync", "in on"])
  assert.deepEqual([plain(room.state), room.stale, server.requests], [plain(server.state("room")), false, []])
})

test("Phoenix's Presence and ours follow a topic from whenever they are made", async (t) => {
  const { clock, server, client, ann, open } = setUp(t)
  const [room] = await open(["room"])
  const log = []
  const make = (Class) => {
    const presence = new Class(room)
    presence.onJoin((key) => log.push(`${Class === Phoenix ? "Phoenix" : "ours"} ${key}`))
    return presence
  }
  const presences = [make(Phoenix), make(Phoenix), make(Presence)]
  await settle()
  ann("room", { n: 1 })
  await clock.advance(50)
  server.restart()
  ann("room", { n: 2 })
  await clock.advance(8000)
  client.topic("hall").watch()
  await clock.advance(8000)
  for (const presence of presences) {
    assert.deepEqual(plain(presence.state), plain(server.state("room")))
    assert.equal(presence.inPendingSyncState(), false)
  }
  assert.deepEqual(log.slice(0, 3), ["Phoenix me", "Phoenix me", "ours me"])
  assert.equal(log.filter((line) => line === "ours ann").length, 2)
})

const topics = ["a", "b", "c"]
const step = fc.oneof(
  fc.record({ do: fc.constant("join"), topic: fc.constantFrom(...topics), key: fc.constantFrom("me", "other"), n: fc.nat(2) }),
  fc.record({ do: fc.constantFrom("update", "leave", "watch", "unwatch"), topic: fc.constantFrom(...topics), n: fc.nat(2) }),
  fc.record({ do: fc.constantFrom("others"), topic: fc.constantFrom(...topics), n: fc.nat(2) }),
  fc.record({ do: fc.constantFrom("cut", "restart", "vanish", "stall", "hide", "offline", "online", "sleep", "expire") }),
  fc.record({ do: fc.constant("fail"), kind: fc.constantFrom("refuse", "lose"), how: fc.constantFrom("network", 500, 503, "hang"), count: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ do: fc.constant("wait"), ms: fc.constantFrom(1, 5, 9, 40, 1500, 12_000, 45_000) }),
)

test("whatever happens, in the end the server has what was wanted and we have what the server has", async (t) => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
    const { clock, server, client, fire, ann } = setUp(t)
    const wanted = new Map()
    const watched = new Set()
    const failing = ({ how, count }) => () => {
      if (count-- <= 0) return
      if (how === "network") throw new TypeError("fetch failed")
      if (how === "hang") return new Promise(() => {})
      return problem(how, "fails", how === 503 ? { "Retry-After": "2" } : {})
    }
    const actions = {
      join: ({ topic, key, n }) => (wanted.set(topic, [key, { n }]), client.topic(topic).join({ key, meta: { n } })),
      update: ({ topic, n }) => wanted.has(topic) && (wanted.set(topic, [wanted.get(topic)[0], { n }]), client.topic(topic).update({ n })),
      leave: ({ topic }) => (wanted.delete(topic), client.topic(topic).leave()),
      watch: ({ topic }) => (watched.add(topic), client.topic(topic).watch()),
      unwatch: ({ topic }) => (watched.delete(topic), client.topic(topic).unwatch()),
      others: ({ topic, n }) => (n ? ann(topic, { n }) : server.end("ann-somewhere-else")),
      cut: () => server.cut(),
      restart: () => server.restart(),
      vanish: () => server.restart(true),
      stall: () => server.stall(),
      hide: async () => (fire("pagehide"), await settle(), fire("pageshow")),
      offline: () => fire("offline"),
      online: () => fire("online"),
      sleep: () => clock.sleep(600_000),
      expire: () => server.expire(),
      fail: (step) => (server[step.kind] = failing(step)),
      wait: ({ ms }) => clock.advance(ms, Math.max(1, ms / 40)),
    }
    try {
      for (const step of steps) {
        const result = actions[step.do](step)
        if (step.do === "wait" || step.do === "hide") await result
        else result?.catch?.(() => {})
        if (step.do !== "wait") await settle()
      }
      server.refuse = server.lose = () => undefined
      await clock.advance(150_000, 250)
      server.end("ann-somewhere-else")
      await clock.advance(1000)
      const mine = []
      for (const topic of topics) {
        const state = plain(server.state(topic))
        for (const [key, { metas }] of Object.entries(state)) for (const { n } of metas) mine.push([topic, key, n])
        const object = client.topic(topic)
        if (!watched.has(topic) && !wanted.has(topic)) continue
        assert.deepEqual(plain(object.state), state)
        assert.equal(object.stale, false)
      }
      assert.deepEqual(mine, topics.filter((topic) => wanted.has(topic)).map((topic) => [topic, wanted.get(topic)[0], wanted.get(topic)[1].n]))
    } finally {
      client.close()
      await clock.advance(20_000, 1000)
      t.mock.reset()
    }
  }), { numRuns: Number(process.env.RUNS ?? 40), includeErrorInReport: true })
})
