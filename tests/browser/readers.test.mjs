import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Changes } from "./lib/changes.mjs";
import { cleanup } from "./lib/cleanup.mjs";
import { launch, people, Visitor } from "./lib/chromium.mjs";
import { equals, eventually } from "./lib/eventually.mjs";
import { fold, readWithChromium, readWithGo, readWithNode } from "./lib/readers.mjs";
import { Server } from "./lib/server.mjs";

const seed = Number(process.env.SEED ?? Date.now() % 1e9);
const odd = "ünï/cöde\u2028 #?&%2F";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

for (const { what, window, path, topic, topics } of [
  { what: "each change of one topic", window: "0", path: "/v1/topics/x/events", topic: "x", topics: ["x"] },
  { what: "the net changes of one topic", window: "5ms", path: "/v1/topics/x/events", topic: "x", topics: ["x"] },
  { what: "the net changes of three topics", window: "5ms", path: `/v1/events?topic=x&topic=y&topic=${encodeURIComponent(odd)}`, topics: ["x", "y", odd] },
]) {
  test(`three readers of ${what} get the same events, and Phoenix's client the same people as the list`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const atEnd = cleanup(t);
    const server = await Server.start("--diff-window", window);
    atEnd(() => server.stop());
    const visitor = await Visitor.open(browser, server);
    atEnd(() => visitor.close());
    const url = server.url + path;
    const readers = [readWithNode(url), readWithGo(url), await readWithChromium(await visitor.tab("/demo"), url)];
    for (const reader of readers) atEnd(() => reader.close());
    const demo = await visitor.demo("the demo's own", "x");
    await equals(() => people(demo), ["the demo's own (count: 1)"]);
    for (const reader of readers) await eventually(async () => assert.ok((await reader.read()).length >= topics.length));

    const changes = new Changes(server, topics, seed);
    for (let round = 0; round < 5; round++) {
      for (let made = 0; made < 80; ) made += await changes.burst();
      const want = new Map();
      for (const each of topics) want.set(each, await server.list(each));
      for (const reader of readers) await equals(async () => sorted(fold(await reader.read(), topic)), sorted(want));
      await equals(async () => (await people(demo)).sort(), Object.entries(want.get("x")).map(([key, { metas }]) => `${key} (count: ${metas.length})`).sort());
    }

    const [first, ...others] = await Promise.all(readers.map((reader) => reader.read()));
    t.diagnostic(`${first.length} events`);
    const states = first.filter(({ event }) => event === "presence_state");
    assert.equal(states.length, topics.length, "readers that keep up get one state of each topic");
    for (const [i, events] of others.entries()) {
      assert.deepEqual(events, first, `${readers[i + 1].name} and ${readers[0].name} differ`);
    }
  });
}

test("a reader may come back after any event", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const atEnd = cleanup(t);
  const server = await Server.start("--diff-window", "5ms");
  atEnd(() => server.stop());
  const url = `${server.url}/v1/topics/x/events`;
  const whole = readWithNode(url);
  atEnd(() => whole.close());
  await eventually(async () => assert.ok((await whole.read()).length > 0));
  const changes = new Changes(server, ["x"], seed);
  for (let made = 0; made < 60; ) made += await changes.burst();
  const want = new Map([["x", await server.list("x")]]);
  await equals(async () => fold(await whole.read(), "x"), want);

  const events = await whole.read();
  for (const [i, { id }] of events.entries()) {
    const back = readWithNode(`${url}?last_event_id=${encodeURIComponent(id)}`);
    await equals(async () => fold([...events.slice(0, i + 1), ...(await back.read())], "x"), want);
    const states = (await back.read()).filter(({ event }) => event === "presence_state");
    assert.deepEqual(states, [], "diffs that are still there were not used");
    await back.close();
  }
});

const sorted = (states) => new Map([...states].sort());
