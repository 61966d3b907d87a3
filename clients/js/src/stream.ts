import { Http, RollcallError } from "./http.js"
import { parseEvents } from "./sse.js"

/** What a stream is to carry. */
export interface StreamRequest {
  topics: string[]
  /** The session to keep alive, if there is one. */
  session: string | undefined
  /** Seconds that it lives without a stream or a heartbeat. Default 30. */
  ttl?: number
  /** Seconds that it outlives the stream. */
  linger: number
  /** The last event that was seen of exactly these topics or more; "" for a fresh state of each. */
  lastEventId: string
}

/** Who takes what a stream carries. */
export interface Sink {
  /** One event of one topic. `id` is what a stream that goes on from here must ask for; "" if none can. */
  event(topic: string, name: string, payload: any, id: string): void
  /** All that was missed has come. */
  caughtUp(retry: number): void
  /** Something came, if only a comment. */
  alive(): void
}

/** Carries events until the stream ends, and then returns, or throws a RollcallError. */
export type Transport = (http: Http, request: StreamRequest, sink: Sink, signal: AbortSignal) => Promise<void>

/** The usual transport: one fetch whose answer does not end. */
export const fetchStream: Transport = async (http, request, sink, signal) => {
  const { topics, session, linger, lastEventId } = request
  let query = "/events?"
  for (const topic of topics) query += "&topic=" + encodeURIComponent(topic)
  if (session) query += `&session=${session}&linger=${linger}`
  if (lastEventId) query += "&last_event_id=" + encodeURIComponent(lastEventId)
  const answer = await http.request("GET", query, undefined, signal)
  const take = parseEvents(
    ({ name, data, id }) => {
      const { topic, payload } = JSON.parse(data)
      sink.event(topic, name, payload, id)
    },
    (retry) => sink.caughtUp(retry),
  )
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      sink.alive()
      take(value)
    }
  } catch (error) {
    throw new RollcallError(String(error))
  }
}
