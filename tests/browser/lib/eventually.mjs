import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

// eventually runs check until it no longer throws, and fails with its last error after timeout milliseconds.
export async function eventually(check, timeout = 10_000) {
  const deadline = Date.now() + timeout;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await delay(20);
  }
}

// equals waits until what() gives want.
export function equals(what, want, timeout) {
  return eventually(async () => assert.deepEqual(await what(), want), timeout);
}
