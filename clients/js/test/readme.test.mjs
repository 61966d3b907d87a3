// Every snippet of the README runs here as it stands, as a program of somebody who has installed the package, against the real binary on another port.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { once } from "node:events"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { fileURLToPath } from "node:url"
import { eventually } from "../../../tests/browser/lib/eventually.mjs"
import { Server } from "../../../tests/browser/lib/server.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const readme = await readFile(join(root, "README.md"), "utf8")
const snippets = [...readme.matchAll(/^## ([^\n]*)$|^```js\n(.*?)^```$/gms)]
  .reduce((all, [, title, code]) => (title ? [...all, { title, codes: [] }] : (all.at(-1).codes.push(code), all)), [{ title: "Three lines", codes: [] }])
  .flatMap(({ title, codes }) => codes.map((code) => ({ title, code })))

/** What each prints, or has others see, if it works. */
const expected = {
  "Three lines": /^Alice \(1\)|'Alice \(1\)'/m,
  Topics: /Alice came[^]*Alice was here and is away[^]*keys: 2, metas: 2[^]*status: 'away'/,
  Tokens: undefined,
  "For Phoenix people": /new here Carol/,
  "Several tabs": undefined,
}

let home
before(async () => {
  home = await mkdtemp(join(tmpdir(), "rollcall-readme-"))
  await mkdir(join(home, "node_modules"))
  await symlink(root, join(home, "node_modules", "rollcall"))
})
after(() => rm(home, { recursive: true }))

test("there are as many snippets as are expected", () => assert.deepEqual(snippets.map(({ title }) => title), Object.keys(expected)))

for (const { title, code } of snippets) {
  test(title, async (t) => {
    const server = await Server.start()
    const file = join(home, title.replaceAll(" ", "-") + ".mjs")
    await writeFile(file, code.replaceAll("http://127.0.0.1:7700", server.url))
    await server.call("PUT", "/v1/topics/room:lobby/presences/Carol", { session: "somebody-elses-session", meta: {} })
    const program = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "pipe"] })
    const ended = once(program, "close")
    t.after(async () => {
      program.kill()
      await ended
      await server.stop()
    })
    let output = ""
    for (const stream of [program.stdout, program.stderr]) stream.on("data", (chunk) => (output += chunk))
    await eventually(async () => {
      if (expected[title]) assert.match(output, expected[title])
      else assert.ok("Alice" in (await server.list("room:lobby")), output)
    })
    assert.doesNotMatch(output, /Error/)
  })
}
