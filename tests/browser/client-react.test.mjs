import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { App } from "./lib/app.mjs";
import { launch, Visitor } from "./lib/chromium.mjs";
import { cleanup } from "./lib/cleanup.mjs";
import { equals } from "./lib/eventually.mjs";
import { Server } from "./lib/server.mjs";
import { Witness } from "./lib/witness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const topic = "room:lobby";
const alice = (more) => ({ is: "Member", id: "alice", topic, name: "Alice", ...more });

async function visit(t) {
  const atEnd = cleanup(t);
  const app = await App.start("react-page.mjs");
  atEnd(() => app.close());
  const server = await Server.start("--allow-origin", app.url);
  atEnd(() => server.stop());
  const witness = new Witness(server, topic);
  atEnd(() => witness.close());
  const visitor = await Visitor.open(browser, app);
  atEnd(() => visitor.close());
  const tab = await visitor.tab("/?" + new URLSearchParams({ server: server.url }));
  const show = (...parts) => tab.evaluate((parts) => show(...parts), parts);
  const text = (id) => tab.locator(`#${id}`).textContent();
  return { server, witness, visitor, tab, show, text };
}

const track = async (server, key, session) =>
  assert.equal((await server.call("POST", "/v1/topics/room:lobby/presences", { key, session, ttl: 300 })).status, 201);

test("a component is present while it is mounted, and Strict Mode's second mount changes nothing", async (t) => {
  const { server, witness, visitor, show, text } = await visit(t);
  await show(alice());
  await equals(() => text("alice"), "Alice: here (1/1)");
  await track(server, "Bob", "bobs-session-12345");
  await equals(() => text("alice"), "Alice: here; Bob: here (2/2)");
  await show();
  await equals(() => witness.people(), { Bob: 1 });
  await show(alice());
  await equals(() => text("alice"), "Alice: here; Bob: here (2/2)");
  await equals(() => witness.log(), ["+Alice", "+Bob", "-Alice", "+Alice"]);
  assert.deepEqual(visitor.complaints, []);
});

test("an equal meta is no change, another one is an update, and update makes one", async (t) => {
  const { witness, tab, show, text } = await visit(t);
  await show(alice({ meta: { status: "busy" } }));
  await equals(() => text("alice"), "Alice: busy (1/1)");
  await show(alice({ meta: { status: "busy" } }));
  await show(alice({ meta: { status: "free" } }));
  await equals(() => text("alice"), "Alice: free (1/1)");
  await equals(() => witness.log(), ["+Alice", "+Alice", "-Alice"]); // an update is a join and a leave in one
  await tab.locator("#alice").click();
  await equals(() => text("alice"), "Alice: away (1/1)");
  await show(alice({ meta: { status: "free" } }));
  await show(alice({ meta: { status: "late" } }));
  await equals(() => text("alice"), "Alice: late (1/1)");
  await equals(async () => (await witness.log()).length, 7);
  assert.deepEqual(await witness.people(), { Alice: 1 });
});

test("components share a topic, and the last to go leaves it", async (t) => {
  const { witness, show, text } = await visit(t);
  const watcher = { is: "Watcher", id: "watcher", topic };
  await show(alice(), alice({ id: "again" }), watcher);
  for (const id of ["alice", "again"]) await equals(() => text(id), "Alice: here (1/1)");
  await equals(() => text("watcher"), '{"keys":1,"metas":1}');
  await show(alice({ id: "again" }), watcher);
  await show(alice({ id: "again", name: "Alicia" }), watcher);
  await equals(() => text("again"), "Alicia: here (1/1)");
  await show(watcher);
  await equals(() => text("watcher"), '{"keys":0,"metas":0}');
  await equals(async () => (await witness.log()).sort(), ["+Alice", "+Alicia", "-Alice", "-Alicia"]);
});

test("what the server refuses is told", async (t) => {
  const { show, text } = await visit(t);
  await show(alice({ name: "x".repeat(300) }));
  await equals(() => text("alice"), "invalid_field");
});

test("who is online is asked once for all components, and again", async (t) => {
  const { server, visitor, tab, show, text } = await visit(t);
  await track(server, "Bob", "bobs-session-12345");
  const queries = () => visitor.requests.filter((url) => url.endsWith("/v1/keys/query")).length;
  const online = (id, ...keys) => ({ is: "Online", id, keys });
  await show(online("a", "Bob", "Carol"), online("b", "Carol"), online("c", "__proto__", "Bob"));
  const bob = ["Bob", { online: true, topics: [topic] }];
  const off = (key) => [key, { online: false, topics: [] }];
  await equals(async () => JSON.parse(await text("a")).sort(), [bob, off("Carol")]);
  await equals(async () => JSON.parse(await text("b")), [off("Carol")]);
  await equals(async () => JSON.parse(await text("c")).sort(), [bob, off("__proto__")]);
  assert.equal(queries(), 1);
  await track(server, "Carol", "carols-session-12345");
  await equals(async () => JSON.parse(await text("b")), [["Carol", { online: true, topics: [topic] }]], 15_000);
  assert.equal(queries(), 2);
  const turn = (hidden) => tab.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await turn(true);
  await turn(false);
  await equals(queries, 3);
});

test("the README's component works as it stands", async (t) => {
  const readme = await readFile(new URL("../../clients/js/README.md", import.meta.url), "utf8");
  const [, snippet] = /^```jsx\n(.*?)^```$/ms.exec(readme);
  const atEnd = cleanup(t);
  const server = await Server.start("--allow-origin", "*");
  atEnd(() => server.stop());
  const app = await App.start("readme.jsx", snippet.replaceAll("http://127.0.0.1:7700", server.url));
  atEnd(() => app.close());
  const visitor = await Visitor.open(browser, app);
  atEnd(() => visitor.close());
  const tab = await visitor.tab("/");
  const texts = (what) => tab.locator(what).allTextContents();
  await equals(() => texts("li"), ["Alice (count: 1)"]);
  await equals(() => texts("h1, p"), ["1 here", "Bob is offline"]);
  await tab.getByRole("button").click();
  await equals(async () => (await server.list(topic)).Alice.metas.map(({ status }) => status), ["away"]);
  assert.deepEqual(visitor.complaints, []);
});
