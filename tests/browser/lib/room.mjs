import assert from "node:assert/strict";
import { App } from "./app.mjs";
import { Visitor } from "./chromium.mjs";
import { cleanup } from "./cleanup.mjs";
import { equals } from "./eventually.mjs";
import { Proxy } from "./proxy.mjs";
import { Server } from "./server.mjs";
import { Witness } from "./witness.mjs";

export const topic = "room:lobby";

// enter opens a server, an application whose tabs reach it through a proxy, and a witness who does not. options go to each tab.
export async function enter(t, browser, options = {}, ...flags) {
  const atEnd = cleanup(t);
  const app = await App.start();
  atEnd(() => app.close());
  const server = await Server.start("--allow-origin", app.url, ...flags);
  atEnd(() => server.stop());
  const proxy = await Proxy.start(server.addr);
  atEnd(() => proxy.close());
  const witness = new Witness(server, topic);
  atEnd(() => witness.close());
  const visitor = await Visitor.open(browser, app);
  atEnd(() => visitor.close());
  const open = (key, more) => visitor.tab("/?" + new URLSearchParams({ server: proxy.url, topic, key, ...options, ...more }));
  return { atEnd, app, server, proxy, witness, visitor, open };
}

export const people = (tab) => tab.evaluate(() => people());

// shown is all that a tab showed, one thing after another.
export const shown = (tab) => tab.evaluate(() => shown);

export const isStale = (tab) => tab.evaluate(() => room.stale);

// all waits until each of the tabs and the witness show these people.
export async function all(tabs, witness, want, timeout) {
  await equals(() => witness.people(), want, timeout);
  for (const tab of tabs) {
    await equals(() => people(tab), want, timeout);
    await equals(() => isStale(tab), false, timeout);
  }
}

// crash kills the process that runs a tab.
export async function crash(tab) {
  const crashed = tab.waitForEvent("crash");
  tab.goto("chrome://crash").catch(() => {}); // it never loads
  await crashed;
}

// takeOffline cuts a browser off and keeps it so until the function that it returns is called.
export async function takeOffline({ visitor, proxy }) {
  const { port } = new URL(proxy.url);
  await visitor.context.setOffline(true);
  await new Promise((resolve) => {
    proxy.listener.close(resolve);
    proxy.cut();
  });
  return async () => {
    await new Promise((resolve) => proxy.listener.listen(Number(port), "127.0.0.1", resolve));
    await visitor.context.setOffline(false);
  };
}

// streams is how many streams the server has open, bar the witness's.
export async function streams(server) {
  const metrics = await (await fetch(server.url + "/metrics")).text();
  const [, count] = /^rollcall_streams (\d+)$/m.exec(metrics) ?? assert.fail(metrics);
  return Number(count) - 1;
}

// passes lets as much time pass as a scenario is about.
export const passes = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
