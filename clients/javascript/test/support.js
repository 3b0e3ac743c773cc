// What the tests share: a server that plays a script, a storage, locks, and a page.
import { equal } from 'node:assert/strict'
import { createServer } from 'node:http'

/** Web Storage, with faults: `fault(method, item)` may throw. */
export class FakeStorage {
  constructor(fault = () => {}) {
    this.items = new Map()
    this.fault = fault
  }
  get length() { return this.items.size }
  key(index) { return [...this.items.keys()][index] ?? null }
  getItem(item) {
    this.fault('getItem', item)
    return this.items.get(item) ?? null
  }
  setItem(item, value) {
    this.fault('setItem', item)
    this.items.set(item, String(value))
  }
  removeItem(item) {
    this.fault('removeItem', item)
    this.items.delete(item)
  }
}

/** A storage that can be full: then it takes what is no longer than before, as browsers do, or nothing at all. */
export class FullStorage extends FakeStorage {
  isFull = false
  takesNothing = false
  setItem(item, value) {
    const before = this.items.get(item)?.length ?? 0
    if (this.isFull && (this.takesNothing || value.length > before)) throw new DOMException('full', 'QuotaExceededError')
    super.setItem(item, value)
  }
}

/**
 * Runs `work` in a page whose IndexedDB has the items of this storage. A call that throws there aborts its transaction. `work` gets
 * `countOpen`, which counts the connections that are open.
 */
export const asIndexedDB = async (storage, work) => {
  const calls = {
    get: (item) => storage.getItem(item) ?? undefined,
    put: (value, item) => storage.setItem(item, value),
    delete: (item) => storage.removeItem(item),
    getAllKeys: () => [...storage.items.keys()].sort(),
  }
  const begin = (connection, mode, options) => {
    if (connection.isClosed) throw new DOMException('closed', 'InvalidStateError')
    if (mode == 'readwrite') equal(options.durability, 'strict')
    const transaction = {}
    const ask = (call) => (...values) => {
      const asked = {}
      setImmediate(() => {
        try {
          asked.result = call(...values)
        } catch (error) {
          transaction.error = error
          return transaction.onabort()
        }
        transaction.oncomplete()
      })
      return asked
    }
    transaction.objectStore = () => Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, ask(call)]))
    return transaction
  }
  const connections = []
  const open = () => {
    const asked = {}
    setImmediate(() => {
      const connection = { transaction: (name, mode, options) => begin(connection, mode, options), close: () => { connection.isClosed = true } }
      connections.push(connection)
      asked.result = connection
      asked.onsuccess()
    })
    return asked
  }
  Object.defineProperty(globalThis, 'indexedDB', { configurable: true, value: { open } })
  try {
    return await work({ countOpen: () => connections.filter(({ isClosed }) => !isClosed).length })
  } finally {
    // A call that has its answer still writes.
    for (let turns = 0; turns < 20; turns++) await turn()
    delete globalThis.indexedDB
  }
}

/** A storage in which every call takes a turn of the event loop, so that two tabs interleave. */
export class SlowStorage extends FakeStorage {
  async getItem(item) { await turn(); return super.getItem(item) }
  async setItem(item, value) { await turn(); super.setItem(item, value) }
  async removeItem(item) { await turn(); super.removeItem(item) }
}

export const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Web Locks for all the tabs of one browser. */
export class FakeLocks {
  #last = new Map()
  granted = 0
  request(name, work) {
    const run = (this.#last.get(name) ?? Promise.resolve()).then(() => {
      this.granted++
      return work({ name })
    })
    this.#last.set(name, run.catch(() => {}))
    return run
  }
}

let pages = 0

/** The module as another tab, or the same tab after a reload, has it: with a memory of its own. */
export const newPage = () => import(`../index.js?page=${pages++}`)

/** Numbers that a seed decides (mulberry32). */
export const seeded = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
}

/** A server on loopback whose `play(request, response, body)` may wait for the whole body or not. */
export const serve = async (play) => {
  const seen = []
  const server = createServer((request, response) => {
    const chunks = []
    const entry = { key: request.headers['idempotency-key'], headers: request.headers, method: request.method }
    entry.body = new Promise((resolve) => {
      request.on('data', (chunk) => chunks.push(chunk))
      request.on('end', () => resolve(Buffer.concat(chunks).toString('latin1')))
      request.on('error', () => resolve(undefined))
      request.on('close', () => resolve(undefined))
    })
    seen.push(entry)
    // Dates come from the script, and a connection is never reused after a reset.
    response.sendDate = false
    response.setHeader('connection', 'close')
    play(request, response, entry, seen.length)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  return {
    port,
    seen,
    url: `http://127.0.0.1:${port}/payments`,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Answers with a status, headers, and a problem, JSON or this text. */
export const answer = (response, { status, headers = {}, problem, json, text }) => {
  let body = text ?? ''
  if (problem) {
    response.setHeader('content-type', 'application/problem+json')
    body = JSON.stringify({ type: 'about:blank', title: problem.code, status, ...problem })
  } else if (json) {
    response.setHeader('content-type', 'application/json')
    body = JSON.stringify(json)
  } else if (text === undefined && status !== 204 && status !== 304) {
    body = `answer ${status}`
  }
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  response.writeHead(status)
  response.end(body)
}

/** Replaces the timer of each try by one that fires when it is told to. */
export const fakeTimeouts = () => {
  const real = AbortSignal.timeout
  const timers = []
  AbortSignal.timeout = (ms) => {
    const controller = new AbortController()
    timers.push({ ms, fire: () => controller.abort(new DOMException('no answer in time', 'TimeoutError')) })
    return controller.signal
  }
  return { timers, restore: () => { AbortSignal.timeout = real } }
}
