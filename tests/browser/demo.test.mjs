import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { cleanup } from "./lib/cleanup.mjs";
import { launch, people, Visitor } from "./lib/chromium.mjs";
import { equals, eventually } from "./lib/eventually.mjs";
import { Server } from "./lib/server.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

// visit gives a test its own server and browser profile. Whatever the test was about, no session may be found in the server's log.
async function visit(t) {
  const server = await Server.start();
  const visitor = await Visitor.open(browser, server);
  t.after(async () => {
    await visitor.close();
    await server.stop();
    for (const session of visitor.sessions()) assert.ok(!server.log.includes(session), "a session id is in the log");
  });
  return { server, visitor };
}

// documentation opens the API's documentation and waits until it has drawn the contract.
async function documentation(visitor) {
  const tab = await visitor.tab("/docs");
  await tab.getByText("List who is in a topic").waitFor();
  return tab;
}

const shows = (tab, ...lines) => equals(() => people(tab), lines);

test("two tabs of Alice and one of Bob see each other come and go", async (t) => {
  const { visitor } = await visit(t);
  const [alice, again, bob] = [await visitor.demo("Alice"), await visitor.demo("Alice"), await visitor.demo("Bob")];
  for (const tab of [alice, again, bob]) {
    await shows(tab, "Alice (count: 2)", "Bob (count: 1)");
    assert.equal(await tab.locator("#status").textContent(), "live");
    assert.equal(await tab.locator("#summary").textContent(), "2 people on 3 devices");
  }

  const closing = Date.now();
  await again.close();
  for (const tab of [alice, bob]) await shows(tab, "Alice (count: 1)", "Bob (count: 1)");
  await alice.close();
  await shows(bob, "Bob (count: 1)");
  assert.ok(Date.now() - closing < 4000, "tabs that closed were taken for lost connections, which linger 5 s");

  const log = await bob.locator("#log li span:first-of-type").evaluateAll((entries) => entries.filter((e) => !e.className).map((e) => e.textContent));
  assert.deepEqual(log, ["Alice left", "Alice is now on 1 device"]);
  assert.deepEqual(visitor.complaints, []);
});

test("a reload keeps the count", async (t) => {
  const { visitor } = await visit(t);
  const alice = await visitor.demo("Alice");
  const bob = await visitor.demo("Bob");
  await shows(bob, "Alice (count: 1)", "Bob (count: 1)");
  await bob.evaluate(() => {
    window.seen = new Set();
    new MutationObserver(() => seen.add(document.querySelector("#people").textContent)).observe(document.querySelector("#people"), {
      childList: true, characterData: true, subtree: true,
    });
  });
  for (let i = 0; i < 5; i++) {
    await alice.reload();
    await shows(alice, "Alice (count: 1)", "Bob (count: 1)");
  }
  await shows(bob, "Alice (count: 1)", "Bob (count: 1)");
  const doubled = (await bob.evaluate(() => [...seen])).filter((text) => text.includes("count: 2"));
  assert.deepEqual(doubled, []);
});

test("the back button brings a visitor back as a new session", async (t) => {
  const atEnd = cleanup(t);
  const server = await Server.start();
  atEnd(() => server.stop());
  const own = await launch({ ignoreDefaultArgs: ["--disable-back-forward-cache"] });
  atEnd(() => own.close());
  const visitor = await Visitor.open(own, server);
  const bob = await visitor.demo("Bob");
  const alice = await visitor.demo("Alice");
  await shows(bob, "Alice (count: 1)", "Bob (count: 1)");
  await alice.evaluate(() => (window.kept = true));
  await alice.goto(server.url + "/healthz");
  await shows(bob, "Bob (count: 1)");
  await alice.goBack({ waitUntil: "commit" }); // a page that is kept does not load again
  await shows(bob, "Alice (count: 1)", "Bob (count: 1)");
  await shows(alice, "Alice (count: 1)", "Bob (count: 1)");
  assert.equal(await alice.evaluate(() => window.kept), true, "the page was loaded anew, so this tested nothing");
});

test("a tab that crashes is gone after its linger", async (t) => {
  const { visitor } = await visit(t);
  const bob = await visitor.demo("Bob");
  const alice = await visitor.demo("Alice");
  await shows(bob, "Alice (count: 1)", "Bob (count: 1)");
  const crashed = alice.waitForEvent("crash");
  alice.goto("chrome://crash").catch(() => {}); // it never loads
  await crashed;
  await shows(bob, "Bob (count: 1)");
});

test("names are text, whatever they are", async (t) => {
  const { visitor } = await visit(t);
  const names = ["<img src=x onerror=alert(1)>", "__proto__", "constructor", "Zoë 👩‍🚀", `"'&amp;\u2028%2F?#\\`, "\u202eevil", "a  b"];
  const tab = await visitor.demo(names[0]);
  await shows(tab, `${names[0]} (count: 1)`);
  for (const [i, name] of names.entries()) {
    const { status } = await visitor.server.call("POST", "/v1/topics/room:lobby/presences", { key: name, session: `hostile-name-${i}-session` });
    assert.equal(status, 201, name);
  }
  const want = names.map((name, i) => `${name} (count: ${i === 0 ? 2 : 1})`).sort();
  await equals(async () => (await people(tab)).sort(), want);
  const log = await tab.locator("#log bdi").allTextContents();
  for (const name of names) assert.ok(log.includes(name), `the log does not tell of ${name}`);
  assert.equal(await tab.locator("img").count(), 0);

  const last = await visitor.demo(names.at(-1));
  await eventually(async () => assert.ok((await people(last)).includes("a  b (count: 2)")));
  assert.deepEqual(visitor.complaints, []);
});

test("the list is sorted by name", async (t) => {
  const { server, visitor } = await visit(t);
  const tab = await visitor.demo("Mallory");
  for (const key of ["zed", "Alice", "émile", "bob", "Eve", "Zoe"]) await server.call("POST", "/v1/topics/room:lobby/presences", { key });
  await shows(tab, ...["Alice", "bob", "émile", "Eve", "Mallory", "zed", "Zoe"].map((key) => `${key} (count: 1)`));
});

test("tabs recover when the server crashes and comes back", async (t) => {
  const { server, visitor } = await visit(t);
  const [alice, bob] = [await visitor.demo("Alice"), await visitor.demo("Bob")];
  await shows(alice, "Alice (count: 1)", "Bob (count: 1)");
  await server.crash();
  await equals(() => alice.locator("#status").textContent(), "reconnecting");
  await server.restart();
  for (const tab of [alice, bob]) {
    await equals(() => tab.locator("#status").textContent(), "live", 30_000);
    await shows(tab, "Alice (count: 1)", "Bob (count: 1)");
  }
});

test("the server ends well while tabs are open", async (t) => {
  const server = await Server.start();
  const visitor = await Visitor.open(browser, server);
  t.after(() => visitor.close());
  const tab = await visitor.demo("Alice");
  await shows(tab, "Alice (count: 1)");
  await server.stop();
  await equals(() => tab.locator("#status").textContent(), "reconnecting");
});

test("without a name the page asks for one and keeps the topic", async (t) => {
  const { visitor } = await visit(t);
  const tab = await visitor.tab("/demo?topic=room%2Fden%20%26%20attic");
  await tab.getByLabel("Your name").fill("Alice & Bob");
  await tab.getByRole("button", { name: "Join" }).click();
  await shows(tab, "Alice & Bob (count: 1)");
  assert.equal(await tab.locator("h1:visible").textContent(), "room/den & attic");

  const [again] = await Promise.all([tab.waitForEvent("popup"), tab.getByRole("link", { name: "Open another tab as Alice & Bob" }).click()]);
  const [other] = await Promise.all([tab.waitForEvent("popup"), tab.getByRole("link", { name: "Join as Bob" }).click()]);
  for (const each of [tab, again, other]) await shows(each, "Alice & Bob (count: 2)", "Bob (count: 1)");
  assert.deepEqual(Object.keys(await visitor.server.list("room/den & attic")), ["Alice & Bob", "Bob"]);
});

test("a name that the server refuses is explained", async (t) => {
  const { visitor } = await visit(t);
  const tab = await visitor.demo("x".repeat(256));
  await eventually(async () => assert.match(await tab.locator("#problem").textContent(), /256 bytes/));
  assert.equal(await tab.locator("#status").textContent(), "refused");
});

const snippets = [...(await readFile(new URL("../../README.md", import.meta.url), "utf8")).matchAll(/```js\n(.*?)\n```/gs)].map(([, code]) => code);

test("the page's snippet is the README's first", async (t) => {
  const { visitor } = await visit(t);
  const tab = await visitor.demo("Alice");
  assert.equal(await tab.locator("#snippet").textContent(), snippets[0]);
});

for (const [i, snippet] of snippets.entries()) test(`the README's snippet ${i + 1} works as it stands`, async (t) => {
  const { visitor } = await visit(t);
  const tab = await visitor.demo("Alice");
  const phoenix = await readFile(new URL("node_modules/phoenix/priv/static/phoenix.mjs", import.meta.url), "utf8");
  await visitor.context.route("**/phoenix.mjs", (route) => route.fulfill({ contentType: "text/javascript", body: phoenix }));
  await visitor.context.route("**/snippet", (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<script type="importmap">{"imports":{"phoenix":"/phoenix.mjs"}}</script><script type="module">${snippet}</script>`,
    }));
  const own = await visitor.context.newPage();
  const printed = [];
  own.on("console", (message) => printed.push(message.text()));
  await own.goto(visitor.server.url + "/snippet");
  await shows(tab, "Alice (count: 2)");
  await equals(() => printed.at(-1), "Alice (count: 2)");
  await own.close();
  await shows(tab, "Alice (count: 1)");
});

test("the API's documentation needs nothing from other hosts", async (t) => {
  const { server, visitor } = await visit(t);
  const tab = await documentation(visitor);
  await tab.getByText("List who is in a topic").click();
  await tab.getByRole("button", { name: "Try it out" }).waitFor();
  const outside = visitor.requests.filter((url) => !url.startsWith(server.url + "/") && !/^(data|blob):/.test(url));
  assert.deepEqual(outside, []);
  assert.ok(visitor.requests.length > 1, "the page loaded nothing");
  assert.deepEqual(visitor.complaints, []);
});

test("the page looks right, light and dark, wide and narrow", async (t) => {
  const { server, visitor } = await visit(t);
  const folder = join(tmpdir(), "rollcall-screenshots");
  await mkdir(folder, { recursive: true });
  t.diagnostic(`screenshots are in ${folder}`);
  const others = ["Bob", "Carol", "<img src=x onerror=alert(1)>", "a-name-without-any-space-to-break-it-at-".repeat(3)];
  const tab = await visitor.demo("Alice");
  await visitor.demo("Alice");
  for (const key of others) await server.call("POST", "/v1/topics/room:lobby/presences", { key, meta: { device: "Firefox on Android" } });
  await eventually(async () => assert.equal((await people(tab)).length, 5));
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      await tab.setViewportSize({ width, height: 900 });
      await tab.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await tab.screenshot({ path: join(folder, `demo-${colorScheme}-${width}.png`), fullPage: true });
      const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `at ${width} pixels the page is ${overflow} too wide`);
    }
  }
  const docs = await documentation(visitor);
  await docs.screenshot({ path: join(folder, "docs.png") });
  const welcome = await visitor.tab("/demo");
  await welcome.screenshot({ path: join(folder, "welcome.png") });
});
