import assert from "node:assert/strict";

const keys = [
  "Alice", "Bob", "__proto__", "constructor", "👩‍🚀 Zoë", `"quotes' and \\backslashes\\`, "line\u2028and\u2029paragraph", " blanks ",
  "</script><img src=x>", "%2F/../?&#", "\ufeffbom",
];

// Changes makes random changes over REST, the same ones for the same seed, and checks each answer against what it knows.
export class Changes {
  sessions = new Map(); // session → Set of JSON [topic, key]

  constructor(server, topics, seed) {
    this.server = server;
    this.topics = topics;
    this.random = mulberry32(seed);
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  // burst makes up to eight changes at once, each of another session, so that some of them meet in one diff. Nothing
  // expires meanwhile, however slow the machine: every known session is renewed first.
  async burst() {
    const known = [...this.sessions.keys()];
    await this.expect(200, "POST", "/v1/heartbeats", { sessions: known });
    const sessions = new Set();
    for (let n = 1 + Math.floor(this.random() * 8); n > 0; n--) {
      sessions.add(known.length > 0 && this.random() < 0.7 ? this.pick(known) : this.newSession());
    }
    await Promise.all([...sessions].map((session) => this.change(session)));
    return sessions.size;
  }

  newSession() {
    const session = Array.from({ length: 20 }, () => this.pick([..."ABCdef012_-"])).join("");
    this.sessions.set(session, new Set());
    return session;
  }

  // change decides everything before it awaits anything, so that the seed alone says what happens.
  async change(session) {
    const present = this.sessions.get(session);
    const place = this.random() < 0.6 && present.size > 0 ? this.pick([...present]) : JSON.stringify([this.pick(this.topics), this.pick(keys)]);
    const [topic, key] = JSON.parse(place);
    const presences = `/v1/topics/${encodeURIComponent(topic)}/presences`;
    const presence = `${presences}/${encodeURIComponent(key)}`;
    const was = present.has(place);
    const meta = this.meta();
    const kind = this.random();

    if (kind < 0.45) {
      present.add(place);
      await this.expect(was ? 409 : 201, "POST", presences, { key, session, meta });
    } else if (kind < 0.65) {
      present.add(place);
      await this.expect(was ? 200 : 201, "PUT", presence, { session, meta });
    } else if (kind < 0.75) {
      await this.expect(was ? 200 : 404, "PATCH", presence, { session, meta });
    } else if (kind < 0.9) {
      present.delete(place);
      await this.expect(204, "DELETE", `${presence}?session=${session}`);
    } else {
      this.sessions.delete(session);
      await this.expect(204, "DELETE", `/v1/sessions/${session}`);
    }
  }

  meta() {
    const meta = { n: Math.floor(this.random() * 3) };
    if (this.random() < 0.3) meta.text = this.pick(["\u2028", "\n\r\n", "data: forged\n\nevent: presence_state", "\0", "🦊", "é", "<&>"]);
    if (this.random() < 0.1) meta.long = "x".repeat(3000);
    if (this.random() < 0.1) meta["__proto__x"] = [null, 1.5, { deep: [] }];
    return meta;
  }

  async expect(status, method, path, body) {
    const answer = await this.server.call(method, path, body);
    assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.json)}`);
  }
}

// mulberry32 is a small generator of numbers in [0, 1) that a seed determines.
function mulberry32(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
