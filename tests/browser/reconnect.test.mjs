import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cleanup } from "./lib/cleanup.mjs";
import { launch, people, Visitor } from "./lib/chromium.mjs";
import { equals, eventually } from "./lib/eventually.mjs";
import { Proxy } from "./lib/proxy.mjs";
import { fold, readWithChromium, readWithNode } from "./lib/readers.mjs";
import { Server } from "./lib/server.mjs";

const lobby = "/v1/topics/room:lobby";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

// visit opens a server and a proxy before it, for tabs whose connections the test cuts.
async function visit(t) {
  const atEnd = cleanup(t);
  const server = await Server.start();
  atEnd(() => server.stop());
  const proxy = await Proxy.start(server.addr);
  atEnd(() => proxy.close());
  const visitor = await Visitor.open(browser, proxy);
  atEnd(() => visitor.close());
  return { atEnd, server, proxy, visitor };
}

test("a tab that loses its connection resumes where it was, and nobody else notices", async (t) => {
  const { atEnd, server, proxy, visitor } = await visit(t);
  const witness = readWithNode(`${server.url}${lobby}/events`);
  atEnd(() => witness.close());
  await eventually(async () => assert.ok((await witness.read()).length > 0));
  const tab = await visitor.demo("Alice");
  await equals(() => people(tab), ["Alice (count: 1)"]);
  const joined = await server.list("room:lobby");

  // Mallory's stream ends with Alice's but is not opened again, and lingers longer: once she is gone, Alice had every chance to be.
  const mallory = readWithNode(`${proxy.url}${lobby}/events?key=Mallory&linger=7`);
  await equals(() => people(tab), ["Alice (count: 1)", "Mallory (count: 1)"]);
  await mallory.close();
  proxy.cut();
  await server.call("POST", `${lobby}/presences`, { key: "Bob" });
  await equals(async () => proxy.lastEventIDs().length, 1);
  await equals(() => people(tab), ["Alice (count: 1)", "Bob (count: 1)", "Mallory (count: 1)"]);
  await equals(() => people(tab), ["Alice (count: 1)", "Bob (count: 1)"], 15_000);
  assert.deepEqual((await server.list("room:lobby")).Alice, joined.Alice, "Alice's meta kept its ref");

  const diffs = (await witness.read()).filter(({ event }) => event === "presence_diff").map(({ data }) => JSON.parse(data));
  const alices = diffs.filter(({ joins, leaves }) => "Alice" in joins || "Alice" in leaves);
  assert.equal(alices.length, 1, `the witness saw more than Alice's join: ${JSON.stringify(alices)}`);
});

test("an EventSource that is cut again and again misses nothing and gets nothing twice", async (t) => {
  const { atEnd, server, proxy, visitor } = await visit(t);
  const witness = readWithNode(`${server.url}${lobby}/events`);
  atEnd(() => witness.close());
  const reader = await readWithChromium(await visitor.tab("/demo"), `${proxy.url}${lobby}/events`);
  for (const each of [witness, reader]) await eventually(async () => assert.ok((await each.read()).length > 0));

  for (let round = 1; round <= 3; round++) {
    proxy.cut();
    for (let i = 0; i < 10; i++) {
      const { status } = await server.call("POST", `${lobby}/presences`, { key: `guest ${i}` });
      assert.equal(status, 201);
    }
    await equals(async () => proxy.lastEventIDs().length, round);
    const want = new Map([["room:lobby", await server.list("room:lobby")]]);
    await equals(async () => fold(await reader.read(), "room:lobby"), want);
  }
  assert.deepEqual(await reader.read(), await witness.read());
});
