import { Presence } from "phoenix";
import { readWithNode } from "./readers.mjs";

// Witness watches a topic from outside the browser and notes what it sees as Phoenix's client reports it: "+Alice" for each device that came, "-Alice" for
// each that went.
export class Witness {
  constructor(server, topic) {
    this.reader = readWithNode(`${server.url}/v1/topics/${encodeURIComponent(topic)}/events`);
  }

  async read() {
    const log = [];
    const note = (sign) => (key, _, { metas }) => log.push(...metas.map(() => sign + key));
    let state = {};
    for (const { event, data } of await this.reader.read()) {
      const sync = event === "presence_state" ? "syncState" : "syncDiff";
      state = Presence[sync](state, JSON.parse(data), note("+"), note("-"));
    }
    return { log, people: Object.fromEntries(Presence.list(state, (key, { metas }) => [key, metas.length]).sort()) };
  }

  // opened tells whether the witness knows the topic, so that it sees all that comes.
  async opened() {
    return (await this.reader.read()).length > 0;
  }

  async log() {
    return (await this.read()).log;
  }

  async people() {
    return (await this.read()).people;
  }

  close() {
    return this.reader.close();
  }
}
