import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./lib/chromium.mjs";
import { equals } from "./lib/eventually.mjs";
import { all, crash, enter, shown, streams } from "./lib/room.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const visit = (t, options) => enter(t, browser, { shared: 1, ...options });

// The browser opens no more than six connections to a host over HTTP/1.1; twelve streams would not be.
async function twelve(room) {
  const tabs = [];
  for (let i = 0; i < 12; i++) tabs.push(await room.open("Alice"));
  await all(tabs, room.witness, { Alice: 12 });
  return tabs;
}

// counts are what a tab showed, as numbers; it must not have been stale.
const counts = async (tab) => (await shown(tab)).map((text) => JSON.parse(text).Alice);

test("twelve tabs share a stream, and count right until the last is closed", async (t) => {
  const room = await visit(t);
  const tabs = await twelve(room);
  assert.equal(await streams(room.server), 1);
  while (tabs.length > 1) {
    await tabs.shift().close(); // the oldest leads
    await all(tabs, room.witness, { Alice: tabs.length });
    await equals(() => streams(room.server), 1);
  }
  const seen = await counts(tabs[0]);
  const top = seen.indexOf(12);
  assert.deepEqual(seen.slice(top), [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
  assert.deepEqual(seen.slice(0, top), [...seen.slice(0, top)].sort((a, b) => a - b), "somebody flickered");
  assert.deepEqual(await room.witness.log(), [...Array(12).fill("+Alice"), ...Array(11).fill("-Alice")]);
  assert.deepEqual(room.visitor.complaints, []);
});

test("a follower crashes, then the leader, and nobody else is affected", async (t) => {
  const room = await visit(t, { linger: 3 });
  const [leader, follower, ...tabs] = await twelve(room);
  const crashed = Date.now();
  await crash(follower);
  await all([leader, ...tabs], room.witness, { Alice: 11 });
  assert.ok(Date.now() - crashed > 2500, "it did not linger");
  await crash(leader);
  await all(tabs, room.witness, { Alice: 10 });
  await equals(() => streams(room.server), 1);
  for (const tab of tabs) assert.deepEqual((await counts(tab)).slice(-3), [12, 11, 10]);
  assert.deepEqual(await room.witness.log(), [...Array(12).fill("+Alice"), "-Alice", "-Alice"]);
});

test("a leader with a dialog open is overthrown, and stays present", async (t) => {
  const room = await visit(t);
  const tabs = [await room.open("Alice"), await room.open("Bob"), await room.open("Carol")];
  await all(tabs, room.witness, { Alice: 1, Bob: 1, Carol: 1 });
  room.visitor.context.removeAllListeners("dialog");
  const opened = new Promise((resolve) => room.visitor.context.on("dialog", resolve));
  tabs[0].evaluate(() => alert("stop")).catch(() => {});
  const dialog = await opened;
  const dave = await room.open("Dave");
  await all([tabs[1], tabs[2], dave], room.witness, { Alice: 1, Bob: 1, Carol: 1, Dave: 1 }, 20_000);
  await dialog.accept();
  await all([...tabs, dave], room.witness, { Alice: 1, Bob: 1, Carol: 1, Dave: 1 });
  await equals(() => streams(room.server), 1);
  assert.deepEqual(await room.witness.log(), ["+Alice", "+Bob", "+Carol", "+Dave"]);
});
