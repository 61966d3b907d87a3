import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equals } from "./eventually.mjs";
import { Server } from "./server.mjs";

// Cluster is servers that share presence.
export class Cluster {
  servers = [];

  // start waits until all of so many servers see each other. flags are those of rollcall serve, for each.
  static async start(size, ...flags) {
    const cluster = new Cluster();
    cluster.folder = await mkdtemp(join(tmpdir(), "rollcall-test-"));
    const secret = join(cluster.folder, "secret");
    await writeFile(secret, "a secret that these nodes share\n", { mode: 0o600 });
    for (let i = 0; i < size; i++) {
      const first = cluster.servers[0] && (await members(cluster.servers[0]))[0].cluster_addr;
      const joins = first ? ["--join", first] : [];
      cluster.servers.push(await Server.start("--cluster-addr", "127.0.0.1:0", "--cluster-secret-file", secret, ...joins, ...flags));
    }
    await cluster.complete();
    return cluster;
  }

  // complete waits until every server sees all up.
  async complete() {
    const up = this.servers.map((server) => `${server.addr} up`).sort();
    for (const server of this.servers) await equals(() => states(server), up, 30_000);
  }

  // downAt waits until the other servers take one for dead.
  async downAt(dead) {
    for (const server of this.servers.filter((server) => server !== dead)) {
      await equals(async () => (await states(server)).includes(`${dead.addr} down`), true, 30_000);
    }
  }

  async stop() {
    for (const server of this.servers) await server.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function members(server) {
  const { status, json } = await server.call("GET", "/v1/cluster");
  assert.equal(status, 200);
  return json.members;
}

const states = async (server) => (await members(server)).map(({ public_addr, state }) => `${public_addr} ${state}`).sort();
