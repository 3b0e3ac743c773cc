// Seeded histories: tabs, reloads, clicks and a network that loses, delays and repeats, against a
// server that keeps records. A failing seed is in the message: SEED=7 npm test.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeLocks, newPage, seeded, SlowStorage, turn } from './support.js'

const HISTORIES = 400
const PAYLOAD = { order: 'order-1', amount: 10 }
const MODULES = await Promise.all([1, 2, 3].map(newPage))

/** A payments server that does what this project's server does, and counts. */
class Server {
  records = new Map()
  charges = []
  late = []

  constructor(random, now) {
    this.random = random
    this.now = now
  }

  chance(probability) { return this.random() < probability }

  problem(status, code, headers) {
    return new Response(JSON.stringify({ code, status }), { status, headers: { 'content-type': 'application/problem+json', ...headers } })
  }

  /** The request arrives: the record decides, or the handler runs. */
  async operate(key) {
    const record = this.records.get(key)
    if (record?.running) return this.problem(409, 'in-flight', this.chance(0.7) ? { 'retry-after': '1' } : {})
    if (record) return new Response(record.body, { status: record.status, headers: { 'idempotent-replayed': 'true' } })
    this.records.set(key, { running: true })
    for (let turns = this.random() * 4; turns > 0; turns--) await turn()
    const status = this.chance(0.15) ? 402 : this.chance(0.1) ? 500 : 201
    if (status !== 402) this.charges.push(key)
    this.records.set(key, { status, body: `answer to ${key}` })
    return new Response(`answer to ${key}`, { status })
  }

  async answer(key) {
    for (const delayed of this.late.splice(0)) this.chance(0.5) ? await this.operate(delayed) : this.late.push(delayed)
    const fate = this.random()
    if (fate < 0.08) throw new TypeError('refused')
    if (fate < 0.16) { this.late.push(key); throw new TypeError('timed out, and arrives later') }
    if (fate < 0.22) return new Response('gone', { status: 401 })
    if (fate < 0.25) return new Response('gone', { status: [404, 403, 413, 422][Math.floor(this.random() * 4)] })
    if (fate < 0.30) return this.problem(503, 'overloaded', { 'retry-after': String(1 + Math.floor(this.random() * 4)) })
    if (fate < 0.33) return new Response('bad gateway', { status: 502 })
    if (fate < 0.35) return new Response('', { status: 307, headers: { location: '/elsewhere' } })
    if (fate < 0.37) return new Response('slow down', { status: 429, headers: { 'retry-after': this.chance(0.5) ? '1000000000' : '2' } })
    const answered = await this.operate(key)
    if (this.chance(0.25)) throw new TypeError('reset')
    if (this.chance(0.1)) return new Response(new ReadableStream({ start: (body) => body.error(new TypeError('half a body')) }), { status: answered.status })
    if (this.chance(0.05)) return new Response('gateway time-out', { status: 504 })
    return answered
  }
}

const history = async (seed) => {
  const random = seeded(seed)
  const clock = { now: 1_767_225_600_000 }
  const storage = new SlowStorage(), locks = new FakeLocks()
  const server = new Server(random, () => clock.now)
  const keys = []
  const wrong = []
  let bought = 0, tries = 0

  const page = (least = 0) => MODULES[Math.floor(random() * MODULES.length)].intents({
    user: `ann-${seed}`, storage, locks, random, attempts: 1 + Math.floor(random() * 6),
    now: () => clock.now,
    sleep: async (ms, signal) => {
      if (ms < least) wrong.push(`waited ${ms} ms of ${least}`)
      clock.now += 1
      await turn()
      signal.throwIfAborted()
    },
    fetch: async (url, { headers }) => {
      const key = headers.get('idempotency-key')
      if (++tries > 2000) wrong.push('an endless loop')
      if (!keys.includes(key)) {
        // A new key for this purchase: only if every older one was declined, or never will arrive.
        for (const older of keys) {
          const { status, running } = server.records.get(older) ?? {}
          if (running || (status && status !== 402) || (!status && server.late.includes(older))) wrong.push('a second key')
        }
        keys.push(key)
      }
      least = 0
      const response = await server.answer(key)
      if (response.status !== 201) least = 1000 * (response.headers.get('retry-after') ?? 0)
      return response
    },
  })

  // A person who wants one thing, and clicks, reloads and opens tabs until it is there.
  const person = async () => {
    for (let clicks = 0; bought === 0; clicks++) {
      assert.ok(clicks < 300, `seed ${seed}: never done`)
      const controller = new AbortController()
      if (random() < 0.1) setImmediate(() => controller.abort())
      try {
        const intent = await page().begin('order-1', PAYLOAD)
        if (bought) return
        const response = await intent.fetch('https://example.com/payments', { body: 'x', signal: controller.signal })
        if (response.status < 300 || response.status > 499) {
          if (random() < 0.4) continue // a reload, before the application has seen the answer
          bought++
          return
        }
      } catch (error) {
        assert.ok(['Undecided', 'Refused', 'AbortError'].includes(error.name), `seed ${seed}: ${error.stack}`)
        assert.notEqual(error.reason, 'damaged')
      }
      await turn()
    }
  }
  await Promise.all(Array.from({ length: 1 + Math.floor(random() * 3) }, person))
  for (const key of server.late) await server.operate(key)
  assert.deepEqual(wrong, [], `seed ${seed}`)
  assert.equal(server.charges.length, 1, `seed ${seed}: ${server.charges.length} charges`)
}

test(`one charge in each of ${HISTORIES} histories`, async () => {
  const only = process.env.SEED
  for (let seed = only ? Number(only) : 0; seed < (only ? Number(only) + 1 : HISTORIES); seed++) await history(seed)
})

test('the wait is within the bounds of the table, whatever the numbers', () => {
  const [{ decide, defaults }] = MODULES
  const random = seeded(42)
  const pick = (...values) => values[Math.floor(random() * values.length)]
  for (let round = 0; round < 20_000; round++) {
    const seen = {
      attempt: 1 + Math.floor(random() * 8),
      elapsed: pick(-1e9, 0, random() * 150_000, 1e12),
      age: pick(-1e12, -300_001, -1, 0, random() * 9e7, 1e15),
      retryAfter: pick(undefined, 0, random() * 1e5, 1e12, Infinity),
      random: pick(0, random(), 1),
      ...pick({ failure: 1 }, { status: 100 + Math.floor(random() * 500) }),
      sent: random() < 0.5,
    }
    const { next, wait, reason } = decide(seen, defaults)
    assert.ok(['retry', 'conclude', 'refuse', 'undecided'].includes(next))
    if (next !== 'retry') continue
    assert.equal(reason, '')
    assert.ok(seen.attempt < defaults.attempts)
    assert.ok(wait >= (seen.retryAfter ?? 0), JSON.stringify(seen))
    assert.ok(wait <= (seen.retryAfter ?? 0) + Math.min(30_000, 1000 * 2 ** (seen.attempt - 1)))
    assert.ok(seen.elapsed + wait <= defaults.budget && seen.age + wait <= defaults.lifetime - defaults.margin)
  }
})
