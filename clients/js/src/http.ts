/** A token, or a function that returns one; it is called again when the server no longer takes the last. */
export type Token = string | (() => string | Promise<string>)

/** What the server said instead of yes, or what kept it from saying anything. */
export class RollcallError extends Error {
  override name = "RollcallError"
  /** The status, or 0 when no answer came. */
  status: number
  /** The problem's stable code, e.g. `unknown_session`; "" when no problem document came. */
  code: string
  /** Milliseconds that the server asked to wait before the next try, or 0. */
  retryAfter: number

  constructor(message: string, status = 0, code = "", retryAfter = 0) {
    super(message)
    this.status = status
    this.code = code
    this.retryAfter = retryAfter
  }

  /** Whether the same request may succeed later. */
  get temporary(): boolean {
    return !this.status || this.status >= 500 || this.status === 408 || this.status === 429
  }
}

const patience = 10_000 // milliseconds for an answer
const longestWait = 3600 // seconds that a server may ask for; setTimeout takes what is much longer for nothing

/** Sends requests to one server, with a token that is renewed when it must be. */
export class Http {
  /** The server's address, without a slash at its end; "" for the page's own. */
  readonly base: string
  #give: (() => string | Promise<string>) | undefined
  #given: Promise<string | undefined> | undefined // the token that all requests use, until the server refuses it
  #known: string | undefined // the last that was given
  #send: typeof fetch

  constructor(base: string, token: Token | undefined, send: typeof fetch) {
    this.base = base.replace(/\/$/, "")
    if (typeof token === "function") this.#give = token
    else this.#given = Promise.resolve(token)
    this.#send = send
  }

  /** Requests a path under /v1 and returns the answer, or throws a RollcallError. Without a signal the answer must begin within ten seconds. */
  async request(method: string, path: string, body?: unknown, signal = AbortSignal.timeout(patience), again?: boolean): Promise<Response> {
    const given = (this.#given ??= Promise.resolve().then(this.#give).catch((error) => {
      this.#given = undefined
      throw error
    }))
    let answer: Response
    try {
      const token = (this.#known = await given)
      const headers = { ...(token && { Authorization: "Bearer " + token }), ...(body ? { "Content-Type": "application/json" } : null) }
      answer = await this.#send(this.base + "/v1" + path, { method, headers, signal, cache: "no-store", body: JSON.stringify(body) })
    } catch (error) {
      throw new RollcallError(String(error))
    }
    const { ok, status } = answer
    if (ok) return answer
    if (status === 401 && this.#give && !again) {
      if (this.#given === given) this.#given = undefined // else another request has asked for a new one
      return this.request(method, path, body, signal, true)
    }
    const problem = (await answer.json().catch(() => 0)) || {}
    const wait = Math.min(+answer.headers.get("Retry-After")! || 0, longestWait)
    throw new RollcallError(problem.detail || "HTTP " + status, status, problem.code, wait * 1000)
  }

  /** Posts without waiting, also while the page goes away. */
  beacon(path: string): void {
    let url = this.base + "/v1" + path
    if (this.#known) url += "?access_token=" + encodeURIComponent(this.#known)
    if (globalThis.navigator?.sendBeacon?.(url)) return
    this.#send(url, { method: "POST", keepalive: true }).catch(() => {})
  }
}
