import assert from "node:assert/strict"
import { test } from "node:test"
import { createElement as h } from "react"
import { renderToString } from "react-dom/server"
import { connect } from "../dist/index.js"
import { RollcallProvider, useOnline, usePresence } from "../dist/react.js"

test("a server renders an empty room and asks nobody", () => {
  const asked = []
  const client = connect("http://server", { fetch: (url) => asked.push(url) })
  function Lobby() {
    const { list, count, stale } = usePresence("room:lobby", { key: "Alice" })
    const online = useOnline(["Bob"])
    return h("p", null, JSON.stringify([list, count, stale, online.size]))
  }
  const html = renderToString(h(RollcallProvider, { client }, h(Lobby)))
  assert.equal(html.replaceAll("&quot;", '"'), '<p>[[],{"keys":0,"metas":0},true,0]</p>')
  assert.deepEqual(asked, [])
  assert.equal(client.status, "idle")
})
