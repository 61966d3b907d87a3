import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import { Presence } from "phoenix";
import { built } from "./server.mjs";

// A reader reads one stream from its url. read returns what came so far, as {event, id, data}; close ends it.

const types = ["presence_state", "presence_diff"];

// readWithNode reads with the npm package eventsource.
export function readWithNode(url) {
  const events = [];
  const source = new EventSource(url);
  for (const type of types) {
    source.addEventListener(type, (e) => events.push({ event: e.type, id: e.lastEventId, data: e.data }));
  }
  return { name: "eventsource", read: async () => events, close: async () => source.close() };
}

// readWithChromium reads with the EventSource of a tab that is on the same server.
export async function readWithChromium(tab, url) {
  await tab.evaluate(([url, types]) => {
    window.received = [];
    window.source = new EventSource(url);
    for (const type of types) {
      source.addEventListener(type, (e) => received.push({ event: e.type, id: e.lastEventId, data: e.data }));
    }
  }, [url, types]);
  return {
    name: "Chromium",
    read: () => tab.evaluate(() => received),
    close: () => tab.evaluate(() => source.close()),
  };
}

// readWithGo reads with r3labs/sse, in a process of its own.
export function readWithGo(url) {
  const events = [];
  const reader = spawn(built("r3labs-reader"), [url], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(reader, "close");
  createInterface({ input: reader.stdout }).on("line", (line) => events.push(JSON.parse(line)));
  return {
    name: "r3labs/sse",
    read: async () => events,
    close: async () => {
      reader.kill();
      await ended;
    },
  };
}

// fold returns the state of each topic after the events, as Phoenix's own client computes it. topic is that of a stream whose
// payloads are not wrapped.
export function fold(events, topic) {
  const states = new Map();
  for (const { event, data } of events) {
    const { topic: of, payload } = topic === undefined ? JSON.parse(data) : { topic, payload: JSON.parse(data) };
    const sync = event === "presence_state" ? "syncState" : "syncDiff";
    states.set(of, Presence[sync](states.get(of) ?? {}, payload));
  }
  return new Map([...states].map(([of, state]) => [of, JSON.parse(JSON.stringify(state))]));
}
