// The client in Node against the real binary.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { Presence as Phoenix } from "phoenix"
import { equals, eventually } from "../../../tests/browser/lib/eventually.mjs"
import { Server } from "../../../tests/browser/lib/server.mjs"
import { connect, Presence } from "../dist/index.js"
import { Proxy } from "../testing/proxy.mjs"

let server
before(async () => (server = await Server.start()))
after(() => server.stop())

const keys = (topic) => topic.list((key) => key).sort()
const plain = (value) => JSON.parse(JSON.stringify(value))

/** A client of the server, or of a proxy before it, that ends with the test. */
function client(t, url = server.url, options) {
  const made = connect(url, options)
  t.after(() => made.close())
  return made
}

/** Watches a topic, and notes what a person would see happen. */
async function watcher(t, name) {
  const log = []
  const topic = client(t).topic(name).watch()
  topic.onJoin((key, before) => log.push(`${key} ${before ? "is on another device" : "came"}`))
  topic.onLeave((key, { metas }) => log.push(`${key} ${metas.length ? "is on fewer devices" : "went"}`))
  await eventually(() => assert.equal(topic.stale, false))
  return { topic, log }
}

test("two clients see each other come, update and go", async (t) => {
  const ann = client(t), bob = client(t)
  const log = []
  const room = ann.topic("two").onUpdate((key, meta, was) => log.push([key, was.status, meta.status]))
  await room.join({ key: "Ann" })
  await bob.topic("two").join({ key: "Bob", meta: { status: "here" } })
  await equals(() => [keys(room), keys(bob.topic("two"))], [["Ann", "Bob"], ["Ann", "Bob"]])
  await bob.topic("two").update({ status: "away" })
  await equals(() => log, [["Bob", "here", "away"]])
  assert.deepEqual(plain(room.state), await server.list("two"))
  bob.close()
  await equals(() => [keys(room), room.count], [["Ann"], { keys: 1, metas: 1 }])
})

test("names of any kind", async (t) => {
  const names = ["__proto__", "a/b?c#d&e=f%20g", "line\u2028break", "日本 👩‍🚀", "a,b"]
  const one = client(t)
  await Promise.all(names.map((name) => one.topic(name).join({ key: name, meta: { [name]: name } })))
  for (const name of names) {
    await equals(() => keys(one.topic(name)), [name])
    assert.equal(one.topic(name).state[name].metas[0][name], name)
  }
})

test("what the server refuses rejects", async (t) => {
  const room = client(t).topic("refused")
  await assert.rejects(room.join({ key: "" }))
  await assert.rejects(room.join({ key: "Ann", meta: { long: "x".repeat(10_000) } }), { status: 422, code: "invalid_field" })
  await room.join({ key: "Ann", meta: { n: 1 } })
  await assert.rejects(room.update({ long: "x".repeat(10_000) }), { status: 422 })
  await equals(() => room.state.Ann?.metas[0].n, 1)
})

test("Phoenix's own Presence and ours follow a topic", async (t) => {
  const room = client(t).topic("phoenix")
  const log = []
  const presences = [new Phoenix(room), new Presence(room), new Phoenix(room)]
  presences.forEach((presence) => presence.onJoin((key) => log.push(key)))
  await room.join({ key: "Ann" })
  await equals(() => keys(room), ["Ann"]) // the first state must not have both
  await client(t).topic("phoenix").join({ key: "Bob" })
  await equals(() => presences.map((presence) => Object.keys(presence.state)), [["Ann", "Bob"], ["Ann", "Bob"], ["Ann", "Bob"]])
  for (const presence of presences) assert.deepEqual(plain(presence.state), await server.list("phoenix"))
  assert.deepEqual(log, ["Ann", "Ann", "Ann", "Bob", "Bob", "Bob"])
})

test("our Presence follows a channel such as Phoenix's", async (t) => {
  const callbacks = new Map()
  const channel = { on: (event, callback) => callbacks.set(event, callback) && callbacks.size, joinRef: () => "1" }
  const presence = new Presence(channel)
  const source = client(t).topic("channel")
  for (const [event, callback] of callbacks) source.on(event, callback)
  await source.join({ key: "Ann" })
  await equals(() => plain(presence.state), plain(await server.list("channel")))
})

test("a server that is killed and comes back: everybody is there again, under the same session", async (t) => {
  const own = await Server.start()
  t.after(() => own.stop())
  const ann = client(t, own.url), bob = client(t, own.url)
  const room = ann.topic("killed")
  await Promise.all([room.join({ key: "Ann" }), bob.topic("killed").join({ key: "Bob" }), bob.topic("other").join({ key: "Bob" })])
  await equals(() => keys(room), ["Ann", "Bob"])
  await own.crash()
  await eventually(() => assert.equal(room.stale, true))
  await own.restart()
  await equals(() => [keys(room), room.stale, keys(bob.topic("killed")), keys(bob.topic("other"))], [["Ann", "Bob"], false, ["Ann", "Bob"], ["Bob"]], 30_000)
  assert.deepEqual(plain(room.state), await own.list("killed"))
})

test("a connection that is cut and comes back: nobody sees anything, and nothing is missed", async (t) => {
  const proxy = await Proxy.start(t, server.addr)
  const { log, topic } = await watcher(t, "cut")
  const room = client(t, proxy.url).topic("cut")
  await room.join({ key: "Ann" })
  await equals(() => room.stale, false)
  for (let round = 0; round < 2; round++) {
    proxy.refuse()
    await equals(() => room.stale, true)
    await server.call("PUT", `/v1/topics/cut/presences/Bob-${round}`, { session: "bob-is-somewhere-else", meta: {} })
    proxy.refuse(false)
    await equals(() => [room.stale, plain(room.state)], [false, await server.list("cut")])
  }
  await equals(() => keys(topic), ["Ann", "Bob-0", "Bob-1"])
  assert.deepEqual(log, ["Ann came", "Bob-0 came", "Bob-1 came"])
})

test("a connection that is lost for longer than its linger: one leave, and one join when it is back", async (t) => {
  const proxy = await Proxy.start(t, server.addr)
  const { log } = await watcher(t, "lost")
  const room = client(t, proxy.url, { linger: 1 }).topic("lost")
  await room.join({ key: "Ann" })
  await equals(() => room.stale, false)
  proxy.refuse()
  await equals(() => log, ["Ann came", "Ann went"])
  assert.equal(room.stale, true)
  proxy.refuse(false)
  await equals(() => log, ["Ann came", "Ann went", "Ann came"], 40_000)
  await equals(() => room.stale, false)
})

test("a connection that stalls and goes on: nobody sees anything", async (t) => {
  const proxy = await Proxy.start(t, server.addr)
  const { log } = await watcher(t, "stalled")
  const room = client(t, proxy.url).topic("stalled")
  await room.join({ key: "Ann", meta: { n: 0 } })
  await equals(() => room.stale, false)
  proxy.stall()
  const updated = room.update({ n: 1 })
  await eventually(() => assert.ok(proxy.lost > 0))
  proxy.stall(false)
  proxy.cut()
  await updated
  await equals(async () => [room.stale, (await server.list("stalled")).Ann.metas[0].n], [false, 1])
  assert.deepEqual(log.filter((line) => /came|went/.test(line)), ["Ann came"])
})

test("a bot that closes lets its process end", async () => {
  const { execFile } = await import("node:child_process")
  const { promisify } = await import("node:util")
  const program = `
    const { connect } = await import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)})
    const client = connect(${JSON.stringify(server.url)})
    await client.topic("bots").join({ key: "bot" })
    client.close()`
  await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], { timeout: 20_000 })
  await equals(() => server.list("bots"), {})
})
