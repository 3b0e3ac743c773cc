// Every row of clients/vectors, played by a real server on loopback. Only waits and clocks are fake.
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { answer, FakeLocks, FakeStorage, fakeTimeouts, newPage, serve } from './support.js'

const folder = new URL('../../vectors/', import.meta.url)
const load = (file) => JSON.parse(readFileSync(new URL(file, folder)))
const tables = readdirSync(folder).filter((file) => file.endsWith('.json') && file !== 'policy.json')
const { now: NOW, profile: PROFILE, ...POLICY } = load('policy.json')
const PAYLOAD = { order: 'order-1', amount: 10 }

const options = (policy) => Object.fromEntries(
  Object.entries({ ...POLICY, ...policy }).map(([name, value]) => [name.replace(/_ms$/, ''), value]),
)

/** Where no server listens: the port is taken, on another address. */
const deadUrl = ({ port }) => `http://127.0.0.2:${port}/payments`

const playFailure = async ({ failure, answer: head }, response, entry, timers) => {
  const { socket } = response
  if (failure === 'reset-while-sending') return socket.resetAndDestroy()
  if (failure === 'timeout') return timers.at(-1).fire()
  if (failure === 'reset-before-answer') return socket.resetAndDestroy()
  assert.equal(failure, 'reset-in-body')
  response.writeHead(head.status, { ...head.headers, 'content-length': 100 })
  response.write('{"half":', () => socket.resetAndDestroy())
}

/** Plays one row; `random` decides on which end of the bounds its wait is. */
const play = async ({ when, then }, random, timers) => {
  const { attempt = 1, sent = false, age_ms: age = 0, elapsed_ms: elapsed = 0, latest_ms: latest, profile = PROFILE } = when
  assert.ok(attempt === 1 || sent, 'a later attempt has an earlier one')
  const base = Date.parse(NOW)
  const created = base - (age < 0 ? age : Math.max(age, elapsed))
  const clock = { now: created }
  const storage = new FakeStorage(), locks = new FakeLocks(), waits = []

  const server = await serve(async (request, response, entry, count) => {
    if (when.failure !== 'reset-while-sending' || count !== attempt) await entry.body
    if (count < attempt) return answer(response, { status: 503 })
    if (count > attempt || when.failure === 'refused') return answer(response, { status: 201, headers: { 'idempotent-replayed': 'true' } })
    clock.now = base
    return when.failure ? playFailure(when, response, entry, timers) : answer(response, when.answer)
  })
  try {
    let tries = 0
    const page = async () => (await newPage()).intents({
      ...options(when.policy), profile, user: 'ann', storage, locks,
      random: () => random,
      now: () => clock.now,
      sleep: async (ms) => { waits.push(ms) },
      fetch: (url, init) => fetch(++tries === attempt && when.failure === 'refused' ? deadUrl(server) : url, init),
    })
    let checkout = await page()
    let intent = await checkout.begin('order-1', PAYLOAD)
    if (sent && attempt === 1) intent = await (checkout = await page()).begin('order-1', PAYLOAD)
    clock.now = latest ? created + latest : age < 0 ? created : base - elapsed
    const body = when.body === 'stream' ? new Blob(['x']).stream()
      : when.failure === 'reset-while-sending' ? 'x'.repeat(1 << 20) : JSON.stringify(PAYLOAD)
    let outcome
    try {
      const response = await intent.fetch(server.url, { method: 'POST', body })
      outcome = { next: tries === attempt ? 'conclude' : 'retry', status: response.status }
    } catch (error) {
      outcome = { next: error.name.toLowerCase(), error }
    }

    if (when.failure === 'refused') assert.equal(server.seen.length, tries - 1)
    else assert.equal(server.seen.length, tries)
    assert.equal(tries, when.body ? 0 : attempt + (then.next === 'retry'))
    const wanted = { refuse: 'refused' }[then.next] ?? then.next
    assert.equal(outcome.next, wanted, outcome.error?.stack)
    if (then.reason) assert.equal(outcome.error.reason, then.reason)
    if (then.next === 'conclude') assert.equal(outcome.status, when.answer.status)
    if (then.next === 'retry') {
      assert.equal(waits.length, attempt)
      assert.equal(waits[attempt - 1], then.wait_ms[random])
    }
    if (then.next === 'undecided' && when.answer && !when.failure) {
      assert.equal(outcome.error.response.status, when.answer.status)
    }

    // The same key and the same bytes, at every try.
    const header = profile === 'stripe' ? intent.key : `"${intent.key}"`
    for (const entry of server.seen) {
      assert.equal(entry.key, header)
      const bytes = await entry.body
      if (bytes !== undefined) assert.equal(bytes, body)
    }

    // What became of the key, as the next page finds it.
    const key = then.next === 'retry' ? intent.key : await keyOfNextBegin(await page())
    if (then.intent === 'closed') assert.notEqual(key, intent.key)
    else assert.equal(key, intent.key)
    assert.equal(then.key, then.next === 'conclude' && then.intent !== 'rejected' ? 'spent' : 'kept')
    if (then.intent === 'answered') {
      await intent.done()
      assert.notEqual(await keyOfNextBegin(await page()), intent.key)
    }
  } finally {
    await server.close()
  }
}

const keyOfNextBegin = async (checkout) => {
  try {
    return (await checkout.begin('order-1', PAYLOAD)).key
  } catch (error) {
    return error.intent.key
  }
}

for (const file of tables) {
  describe(file, () => {
    let timeouts
    before(() => { timeouts = fakeTimeouts() })
    after(() => timeouts.restore())
    for (const row of load(file)) {
      test(row.name, async () => {
        await play(row, 0, timeouts.timers)
        if (row.then.next === 'retry') await play(row, 1, timeouts.timers)
      })
    }
  })
}

test('the defaults are those of the table', async () => {
  assert.deepEqual((await newPage()).defaults, options({}))
})
