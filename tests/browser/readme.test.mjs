import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { eventually } from "./lib/eventually.mjs";
import { binary, Server } from "./lib/server.mjs";

// Every command of the README runs here as it stands, against the real binary on another port. Commands that watch go on until what
// they watch has come.

const root = new URL("../../", import.meta.url);
const readme = await readFile(new URL("README.md", root), "utf8");
const blocks = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block.trim().split("\n"));
const [start, ...examples] = blocks;

let server, home;
before(async () => {
  server = await Server.start();
  home = await mkdtemp(join(tmpdir(), "rollcall-readme-"));
  await symlink(binary, join(home, "rollcall"));
  await writeFile(join(home, ".curlrc"), "fail-with-body\nsilent\nshow-error\n"); // an HTTP error is an error here
});
after(async () => {
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
    const { output, end, ended } = shell(command.replaceAll("127.0.0.1:7700", server.addr));
    const goesOn = endless[/^curl -N|^rollcall \w+/.exec(command)?.[0]];
    if (goesOn) {
      await eventually(() => assert.match(output(), goesOn));
      end();
      await ended;
      return;
    }
    const [code] = await ended;
    assert.equal(code, 0, output());
  });
}

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

// endless has what the commands print that go on until they are ended.
const endless = { "curl -N": /presence_state/, "rollcall track": /Alice/, "rollcall watch": /device/ };

// shell runs a command line in a process group of its own, with the binary on the path.
function shell(line) {
  const env = { ...process.env, CURL_HOME: home, ROLLCALL_URL: server.url, PATH: `${home}:${process.env.PATH}` };
  const bash = spawn("bash", ["-c", line], { cwd: root, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [bash.stdout, bash.stderr]) stream.on("data", (chunk) => (text += chunk));
  return { output: () => text, end: () => process.kill(-bash.pid), ended: once(bash, "close") };
}
