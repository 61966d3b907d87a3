import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

const at = (path) => fileURLToPath(new URL(path, import.meta.url))
const served = await readFile(at("../../../api/pages/rollcall.js"), "utf8")

test("the file that the server embeds is what the source makes", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "rollcall-build-"))
  t.after(() => rm(dir, { recursive: true }))
  const made = join(dir, "rollcall.js")
  execFileSync(process.execPath, [at("../build.mjs"), made])
  assert.ok((await readFile(made, "utf8")) === served, "api/pages/rollcall.js is stale; run npm run build")
})

test("the core is at most 4 KiB", () => {
  const [, core] = /^\/\*![^\n]*\*\/\n([^]*)$/.exec(served) // without the line that names the licence
  const size = gzipSync(core, { level: 9 }).length
  assert.ok(size <= 4096, `${size} bytes`)
})

test("the package names no registry's addresses", async () => {
  assert.doesNotMatch(await readFile(at("../package-lock.json"), "utf8"), /"resolved"/)
})
