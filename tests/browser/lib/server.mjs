import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

// built returns the path of a program that make test-browser has built into bin/.
export function built(name) {
  const path = fileURLToPath(new URL(`../../../bin/${name}`, import.meta.url));
  assert.ok(existsSync(path), `${path} is missing; make test-browser builds it`);
  return path;
}

export const binary = process.env.ROLLCALL_BIN || built("rollcall");

// Server is a run of the real binary on a free port, with a data directory of its own.
export class Server {
  log = "";

  // start waits until the server takes requests. flags are those of rollcall serve, besides --addr and --data-dir.
  static async start(...flags) {
    const server = new Server();
    server.flags = ["--drain", "200ms", ...flags];
    server.dataDir = await mkdtemp(join(tmpdir(), "rollcall-test-"));
    await server.run("127.0.0.1:0");
    return server;
  }

  async run(addr) {
    this.process = spawn(binary, ["serve", "--addr", addr, "--data-dir", this.dataDir, ...this.flags], { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = once(this.process, "close");
    this.process.stderr.on("data", (chunk) => (this.log += chunk));
    const lines = createInterface({ input: this.process.stdout });
    lines.on("line", (line) => (this.log += line + "\n"));
    const ready = new Promise((resolve) => {
      lines.on("line", (line) => {
        const url = /^rollcall is ready on (http:\/\/\S+)/.exec(line)?.[1];
        if (url) resolve(url);
      });
    });
    this.url = await Promise.race([ready, this.ended.then(([code]) => assert.fail(`rollcall ended with ${code}:\n${this.log}`))]);
    this.addr = new URL(this.url).host;
  }

  // crash ends the server as a power cut would; restart brings it back on the same address.
  async crash() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  restart() {
    return this.run(this.addr);
  }

  // stop asks the server to end, as an operator would, and checks that it ended well.
  async stop() {
    this.process.kill("SIGTERM");
    const [code, signal] = await this.ended;
    await rm(this.dataDir, { recursive: true, force: true });
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `rollcall did not end well:\n${this.log}`);
  }

  // call makes a request and returns its status and its JSON, if it has any.
  async call(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, json: text ? JSON.parse(text) : undefined };
  }

  async list(topic) {
    const { status, json } = await this.call("GET", `/v1/topics/${encodeURIComponent(topic)}/presences`);
    assert.equal(status, 200);
    return json;
  }
}
