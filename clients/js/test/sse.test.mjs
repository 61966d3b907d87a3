import assert from "node:assert/strict"
import { test } from "node:test"
import fc from "fast-check"
import { parseEvents } from "../dist/sse.js"

/** Parses pieces of a stream and returns what came of them. */
function parse(pieces) {
  const events = [], retries = []
  const take = parseEvents((event) => events.push(event), (ms) => retries.push(ms))
  pieces.forEach(take)
  return { events, retries }
}

const stream = [
  "event: presence_state\ndata: {\"a\":1}\nid: e-1\n\n",
  ":\n\n",
  "retry: 2310\n\n",
  "event: presence_diff\r\ndata: x\u2028y\r\nid: e-2\r\n\r\n",
  "data\n\n",
  "data:no space\ndata:  two\n\n",
  "event: nothing\nid: e-3\n\n",
  "unknown: 1\nevent: last\ndata: :colons: here\n\n",
  "event: unfinished\ndata: never",
].join("")

const want = {
  retries: [2310],
  events: [
    { name: "presence_state", data: '{"a":1}', id: "e-1" },
    { name: "presence_diff", data: "x\u2028y", id: "e-2" },
    { name: "", data: "", id: "" },
    { name: "", data: "no space\n two", id: "" },
    { name: "last", data: ":colons: here", id: "" },
  ],
}

test("a stream is read as the standard says, but that an id is its own event's alone", () => assert.deepEqual(parse([stream]), want))

test("wherever it is cut", () => {
  for (let i = 0; i <= stream.length; i++) assert.deepEqual(parse([stream.slice(0, i), stream.slice(i)]), want, `cut at ${i}`)
  fc.assert(fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
    const at = [0, ...cuts.sort((a, b) => a - b), stream.length]
    assert.deepEqual(parse(at.slice(1).map((end, i) => stream.slice(at[i], end))), want)
  }))
})
