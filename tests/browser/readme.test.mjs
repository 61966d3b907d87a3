import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { eventually } from "./lib/eventually.mjs";
import { binary, Server } from "./lib/server.mjs";

// Every command of the README runs here as it stands, in an order that a reader could follow, against the real binary on other ports. Commands that
// watch go on until what they watch has come, and nodes to the end.

const root = new URL("../../", import.meta.url);
const readme = await readFile(new URL("README.md", root), "utf8");
const blocks = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block.trim().split("\n"));
const [start, ...examples] = blocks;

let server, home;
const addresses = new Map(); // by those that the README names
const nodes = [];
before(async () => {
  server = await Server.start();
  for (const [address] of readme.matchAll(/127\.0\.0\.1:\d+/g)) {
    if (!addresses.has(address)) addresses.set(address, address === "127.0.0.1:7700" ? server.addr : await freeAddress());
  }
  home = await mkdtemp(join(tmpdir(), "rollcall-readme-"));
  await symlink(binary, join(home, "rollcall"));
  await writeFile(join(home, ".curlrc"), "fail-with-body\nsilent\nshow-error\n"); // an HTTP error is an error here
});
after(async () => {
  for (const node of nodes) node.end();
  for (const node of nodes) await node.ended;
  await rm(home, { recursive: true });
  await server.stop();
});

test("the first commands exist", async () => {
  assert.deepEqual(start, ["go run ./cmd/rollcall serve", "make test"]);
  assert.ok(existsSync(new URL("cmd/rollcall/main.go", root)));
  assert.match(await readFile(new URL("Makefile", root), "utf8"), /^test:/m);
});

for (const command of examples.flat()) {
  test(command, async () => {
    const goesOn = endless[/^curl -N|^rollcall \w+/.exec(command)?.[0]];
    if (!goesOn) {
      await eventually(() => succeeds(command));
      return;
    }
    const running = shell(command);
    const serves = command.startsWith("rollcall serve");
    if (serves) nodes.push(running);
    await eventually(() => assert.match(running.output(), goesOn));
    if (serves) return;
    running.end();
    await running.ended;
  });
}

test("a node has what was said to another one", async () => {
  const list = readme.match(/^curl http:\/\/127\.0\.0\.1:77[1-9]0\/.*$/m)[0];
  await eventually(async () => assert.match(await succeeds(list), /"Carol"/));
});

test("the flags of its table exist and have those defaults", async () => {
  const { output, ended } = shell("rollcall serve --help");
  await ended;
  const rows = [...readme.matchAll(/^\| (`--.*?) \| (.*?) \|/gm)];
  assert.ok(rows.length > 0);
  for (const [, flags, defaults] of rows) {
    const values = defaults.match(/(?<=`)[^`, ]+(?=`)/g) ?? [];
    for (const [i, flag] of flags.match(/--[a-z-]+/g).entries()) {
      const want = values[i] ? `${flag}=${values[i]}` : `${flag}=`;
      assert.ok(output().replaceAll('"', "").includes(want), `serve --help has no ${want}`);
    }
  }
});

test("what the README points to is there", () => {
  const links = [...readme.replaceAll(/^```.*?^```/gms, "").matchAll(/\[[^\]]+\]\((?!https?:)([^)#]+)/g)].map(([, link]) => link);
  assert.ok(links.length > 0);
  for (const link of links) assert.ok(existsSync(new URL(link, root)), link);
});

// succeeds runs a command line and returns what it prints.
async function succeeds(command) {
  const { output, ended } = shell(command);
  const [code] = await ended;
  assert.equal(code, 0, output());
  return output();
}

// freeAddress returns an address on loopback that is free. Its port is below those that the system gives to outgoing connections.
async function freeAddress() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    const listener = createServer();
    const listening = await new Promise((resolve) => listener.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true)));
    if (!listening || [...addresses.values()].includes(`127.0.0.1:${port}`)) continue;
    await new Promise((resolve) => listener.close(resolve));
    return `127.0.0.1:${port}`;
  }
}

// endless has what the commands print that go on until they are ended.
const endless = { "curl -N": /presence_state/, "rollcall track": /Alice/, "rollcall watch": /device/, "rollcall serve": /is ready on/ };

// shell runs a command line in a process group of its own, with the binary on the path.
function shell(line) {
  const env = { ...process.env, CURL_HOME: home, ROLLCALL_URL: server.url, PATH: `${home}:${process.env.PATH}` };
  line = line.replaceAll(/127\.0\.0\.1:\d+/g, (address) => addresses.get(address));
  const bash = spawn("bash", ["-c", line], { cwd: home, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [bash.stdout, bash.stderr]) stream.on("data", (chunk) => (text += chunk));
  return { output: () => text, end: () => process.kill(-bash.pid), ended: once(bash, "close") };
}
