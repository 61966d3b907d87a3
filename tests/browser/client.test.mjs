import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./lib/chromium.mjs";
import { equals } from "./lib/eventually.mjs";
import { all, crash, enter, isStale, passes, shown, takeOffline } from "./lib/room.mjs";

let browser;
before(async () => (browser = await launch({ ignoreDefaultArgs: ["--disable-back-forward-cache"] })));
after(() => browser.close());

// Each scenario goes for tabs with a stream each, and for tabs that share one. A session without a stream of its own lives on its lease.
for (const shared of [false, true]) {
  const what = shared ? "a shared stream" : "a stream each";
  const options = shared ? { shared: 1 } : {};
  const visit = (t, more, ...flags) => enter(t, browser, { ...options, ...more }, ...flags);

  test(`${what}: two tabs of Alice and one of Bob`, async (t) => {
    const { witness, visitor, open } = await visit(t);
    const [alice, again, bob] = [await open("Alice"), await open("Alice"), await open("Bob")];
    await all([alice, again, bob], witness, { Alice: 2, Bob: 1 });
    const closing = Date.now();
    await again.close();
    await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    await alice.close();
    await all([bob], witness, { Bob: 1 });
    assert.ok(Date.now() - closing < 9000, "tabs that closed were taken for lost connections");
    assert.deepEqual(await witness.log(), ["+Alice", "+Alice", "+Bob", "-Alice", "-Alice"]);
    assert.deepEqual(visitor.complaints, []);
  });

  test(`${what}: a tab that crashes is gone after its linger, not before`, async (t) => {
    const { witness, open } = await visit(t, { linger: 4 });
    const [alice, bob] = [await open("Alice"), await open("Bob")];
    await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    const crashed = Date.now();
    await crash(alice);
    await all([bob], witness, { Bob: 1 });
    const took = Date.now() - crashed;
    assert.ok(took > 3000 && took < 20_000, `it took ${took} ms`);
    assert.deepEqual(await witness.log(), ["+Alice", "+Bob", "-Alice"]);
    assert.ok(!(await shown(bob)).includes("stale"));
  });

  test(`${what}: a server that crashes and comes back`, async (t) => {
    const { server, witness, open } = await visit(t);
    const tabs = [await open("Alice"), await open("Alice"), await open("Bob")];
    await all(tabs, witness, { Alice: 2, Bob: 1 });
    await server.crash();
    for (const tab of tabs) await equals(() => isStale(tab), true);
    await server.restart();
    await all(tabs, witness, { Alice: 2, Bob: 1 }, 30_000);
    const { Alice, Bob } = await server.list("room:lobby");
    assert.deepEqual([Alice.metas.length, Bob.metas.length], [2, 1]);
  });

  test(`${what}: offline for three seconds, and nobody notices`, async (t) => {
    const room = await visit(t);
    const tabs = [await room.open("Alice"), await room.open("Bob")];
    await all(tabs, room.witness, { Alice: 1, Bob: 1 });
    const before = await room.server.list("room:lobby");
    const comeBack = await takeOffline(room);
    for (const tab of tabs) await equals(() => isStale(tab), true);
    const { status } = await room.server.call("POST", "/v1/topics/room:lobby/presences", { key: "Carol", session: "carol-came-meanwhile", ttl: 300 });
    assert.equal(status, 201);
    await passes(3000);
    await comeBack();
    await all(tabs, room.witness, { Alice: 1, Bob: 1, Carol: 1 });
    assert.deepEqual(await room.witness.log(), ["+Alice", "+Bob", "+Carol"]);
    const { Alice, Bob } = await room.server.list("room:lobby");
    assert.deepEqual({ Alice, Bob }, before);
  });

  test(`${what}: offline for longer than the lease, a leave and a join`, async (t) => {
    const room = await visit(t, { linger: 2 }, "--default-ttl", "3s");
    const tabs = [await room.open("Alice"), await room.open("Bob")];
    await all(tabs, room.witness, { Alice: 1, Bob: 1 });
    const comeBack = await takeOffline(room);
    await equals(() => room.witness.people(), {});
    for (const tab of tabs) assert.equal(await isStale(tab), true);
    await comeBack();
    await all(tabs, room.witness, { Alice: 1, Bob: 1 });
    const log = await room.witness.log();
    assert.deepEqual(log.slice(0, 2), ["+Alice", "+Bob"]);
    assert.deepEqual(log.slice(2, 4).sort(), ["-Alice", "-Bob"]);
    assert.deepEqual(log.slice(4).sort(), ["+Alice", "+Bob"]);
  });

  test(`${what}: away, and back by the back button`, async (t) => {
    const { app, witness, open } = await visit(t);
    const [alice, bob] = [await open("Alice"), await open("Bob")];
    await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    await alice.evaluate(() => (window.kept = true));
    await alice.goto(app.url.replace("127.0.0.1", "localhost") + "/?elsewhere");
    await all([bob], witness, { Bob: 1 });
    await alice.goBack({ waitUntil: "commit" }); // a page that is kept does not load again
    await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    assert.deepEqual(await alice.evaluate(() => [window.kept, returns]), [true, 1], "the page was loaded anew, so this tested nothing");
    assert.deepEqual(await witness.log(), ["+Alice", "+Bob", "-Alice", "+Alice"]);
  });

  test(`${what}: reloads never count twice`, async (t) => {
    const { witness, open } = await visit(t);
    const [alice, bob] = [await open("Alice"), await open("Bob")];
    await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    for (let i = 0; i < 5; i++) {
      await alice.reload();
      await all([alice, bob], witness, { Alice: 1, Bob: 1 });
    }
    for (const text of await shown(bob)) assert.ok(text === "stale" || JSON.parse(text).Alice !== 2, "Bob saw Alice twice");
  });
}
