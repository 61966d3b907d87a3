import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Balancer } from "./lib/balancer.mjs";
import { launch, people, Visitor } from "./lib/chromium.mjs";
import { cleanup } from "./lib/cleanup.mjs";
import { Cluster } from "./lib/cluster.mjs";
import { equals } from "./lib/eventually.mjs";
import { Witness } from "./lib/witness.mjs";

const topic = "room:lobby";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

// visit gives a test three nodes with a witness at each.
async function visit(t, ...flags) {
  const atEnd = cleanup(t);
  const cluster = await Cluster.start(3, ...flags);
  atEnd(() => cluster.stop());
  const witnesses = cluster.servers.map((server) => new Witness(server, topic));
  for (const witness of witnesses) atEnd(() => witness.close());
  for (const witness of witnesses) await equals(() => witness.opened(), true);
  return { atEnd, cluster, witnesses };
}

// tabsAt opens the demo once for each name, each at another server.
async function tabsAt(atEnd, servers, ...names) {
  const tabs = [];
  for (const [i, name] of names.entries()) {
    const visitor = await Visitor.open(browser, servers[i]);
    atEnd(() => visitor.close());
    tabs.push(await visitor.demo(name));
  }
  return tabs;
}

async function show(tabs, lines, timeout) {
  for (const tab of tabs) await equals(() => people(tab), lines, timeout);
}

const status = (tab) => tab.locator("#status").textContent();

// picture makes screenshots of tabs, which t tells where to find.
async function picture(t, what, tabs) {
  const folder = join(tmpdir(), "rollcall-screenshots");
  await mkdir(folder, { recursive: true });
  for (const [i, tab] of tabs.entries()) await tab.screenshot({ path: join(folder, `cluster-${what}-${i + 1}.png`) });
  t.diagnostic(`screenshots are ${folder}/cluster-${what}-*.png`);
}

test("two tabs of Alice and one of Bob, each at another node", async (t) => {
  const { atEnd, cluster, witnesses } = await visit(t);
  const [alice, again, bob] = await tabsAt(atEnd, cluster.servers, "Alice", "Alice", "Bob");
  await show([alice, again, bob], ["Alice (count: 2)", "Bob (count: 1)"]);
  await picture(t, "three-nodes", [alice, again, bob]);

  const closing = Date.now();
  await again.close();
  await show([alice, bob], ["Alice (count: 1)", "Bob (count: 1)"]);
  await alice.close();
  await show([bob], ["Bob (count: 1)"]);
  assert.ok(Date.now() - closing < 4000, "tabs that closed were taken for lost connections, which linger 5 s");
  await picture(t, "bob-remains", [bob]);
  for (const witness of witnesses) await equals(() => witness.log(), ["+Alice", "+Alice", "+Bob", "-Alice", "-Alice"]);
});

test("a tab that knows one node only is away while that node is, and the others say so", async (t) => {
  const { atEnd, cluster, witnesses } = await visit(t, "--down-after", "2s");
  const [alice, again, bob] = await tabsAt(atEnd, cluster.servers, "Alice", "Alice", "Bob");
  await show([alice, again, bob], ["Alice (count: 2)", "Bob (count: 1)"]);
  const before = await cluster.servers[2].list(topic);
  await cluster.servers[1].crash();
  await show([alice, bob], ["Alice (count: 1)", "Bob (count: 1)"], 20_000);
  await equals(() => status(again), "reconnecting");
  await picture(t, "node-killed", [alice, again, bob]);

  await cluster.servers[1].restart();
  await show([alice, again, bob], ["Alice (count: 2)", "Bob (count: 1)"], 30_000);
  await equals(() => status(again), "live", 30_000);
  assert.deepEqual(await cluster.servers[2].list(topic), before, "everybody is back with the refs they had");
  for (const witness of [witnesses[0], witnesses[2]]) assert.deepEqual(await witness.log(), ["+Alice", "+Alice", "+Bob", "-Alice", "+Alice"]);
});

test("a tab behind a balancer goes on at another node when its own is killed, and nobody else notices", async (t) => {
  const { atEnd, cluster, witnesses } = await visit(t);
  const balancer = await Balancer.start(cluster.servers);
  atEnd(() => balancer.close());
  const [alice, again, bob] = await tabsAt(atEnd, [balancer, balancer, balancer], "Alice", "Alice", "Bob");
  await show([alice, again, bob], ["Alice (count: 2)", "Bob (count: 1)"]);
  const before = await cluster.servers[0].list(topic);

  const [[session, killed]] = balancer.streams;
  await killed.crash();
  await equals(async () => balancer.streams.get(session) !== killed, true, 20_000);
  await cluster.downAt(killed);
  await show([alice, again, bob], ["Alice (count: 2)", "Bob (count: 1)"], 20_000);
  for (const tab of [alice, again, bob]) await equals(() => status(tab), "live", 20_000);
  await picture(t, "balanced", [alice, again, bob]);
  const rest = cluster.servers.map((server, i) => ({ server, witness: witnesses[i] })).filter(({ server }) => server !== killed);
  for (const { server, witness } of rest) {
    assert.deepEqual(await server.list(topic), before, "everybody has the ref they had");
    assert.deepEqual((await witness.log()).toSorted(), ["+Alice", "+Alice", "+Bob"]);
  }
  await bob.close();
  await show([alice, again], ["Alice (count: 2)"]);
  for (const { witness } of rest) await equals(async () => (await witness.log()).slice(3), ["-Bob"]);
  await killed.restart(); // or it could not stop
});
