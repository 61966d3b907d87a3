/** One Server-Sent Event. */
export interface ServerEvent {
  name: string
  data: string
  /** The event's own id, or "": then what was read so far is no place to go on from. */
  id: string
}

/**
 * Returns a function that takes the text of an event stream, cut anywhere, and calls back for each event and each `retry:`. It reads what rollcall
 * sends: of the HTML standard's section 9.2.6 all but a lone carriage return as the end of a line, and ids that outlast their event.
 */
export function parseEvents(onEvent: (event: ServerEvent) => void, onRetry: (ms: number) => void): (text: string) => void {
  let rest = "" // a line whose end has not come
  let name = ""
  let data: string[] = []
  let id = ""

  const line = (text: string) => {
    if (!text || text === "\r") {
      if (data.length) onEvent({ name, data: data.join("\n"), id })
      name = id = ""
      data = []
    }
    const [, field, value] = /^([^:]*):? ?([^]*?)\r?$/.exec(text) as unknown as [string, string, string]
    if (field === "event") name = value
    if (field === "data") data.push(value)
    if (field === "id") id = value
    if (field === "retry") onRetry(+value)
  }

  return (text) => {
    const lines = text.split("\n")
    lines[0] = rest + lines[0]
    rest = lines.pop()!
    lines.forEach(line)
  }
}
