/** A token, or a function that returns one; it is called again when the server no longer takes the last. */
export type Token = string | (() => string | Promise<string>)

/** What the server said instead of yes, or what kept it from saying anything. */
export class RollcallError extends Error {
  override name = "RollcallError"
  /** The status, or 0 when no answer came. */
  status: number
  /** The problem's stable code, e.g. `unknown_session`; "" when no problem document came. */
  code: string
  /** Milliseconds that the server asked to wait before the next try. */
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

/** Sends requests to one server, with a token that is renewed when it must be. */
export class Http {
  /** The server's URL, without a slash at its end. */
  readonly base: string
  #token: Token | undefined
  #known: string | undefined
  #send: typeof fetch

  constructor(base: string, token: Token | undefined, send: typeof fetch) {
    this.base = base.replace(/\/$/, "")
    this.#token = token
    this.#send = send
  }

  /** Requests a path under /v1 and returns the answer, or throws a RollcallError. */
  async request(method: string, path: string, body?: unknown, signal: AbortSignal | null = null): Promise<Response> {
    for (let again = false; ; again = true) {
      let answer: Response
      try {
        const token = await this.#current(again)
        const headers: Record<string, string> = {}
        if (token) headers["Authorization"] = "Bearer " + token
        if (body) headers["Content-Type"] = "application/json"
        answer = await this.#send(this.base + "/v1" + path, {
          method, headers, signal, cache: "no-store", body: body ? JSON.stringify(body) : null,
        })
      } catch (error) {
        throw new RollcallError(String(error))
      }
      if (answer.ok) return answer
      if (answer.status === 401 && typeof this.#token === "function" && !again) continue
      const problem = await answer.json().catch(() => ({}))
      throw new RollcallError(problem.detail || answer.statusText || "HTTP " + answer.status, answer.status, problem.code, +(answer.headers.get("Retry-After") || 0) * 1000)
    }
  }

  /** Posts without waiting, also while the page goes away. */
  beacon(path: string): void {
    let url = this.base + "/v1" + path
    if (this.#known) url += "?access_token=" + encodeURIComponent(this.#known)
    if (globalThis.navigator?.sendBeacon?.(url)) return
    this.#send(url, { method: "POST", keepalive: true }).catch(() => {})
  }

  async #current(renew: boolean): Promise<string | undefined> {
    if (typeof this.#token !== "function") return (this.#known = this.#token)
    if (renew || this.#known === undefined) this.#known = await this.#token()
    return this.#known
  }
}
