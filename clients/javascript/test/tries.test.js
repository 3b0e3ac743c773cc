// Where the tries of one call go, until when they go, and what an error tells about them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answer, FakeLocks, FakeStorage, newPage, serve } from './support.js'

const NOON = 1_767_268_800_000
const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'
const busy = () => new Response('busy', { status: 503 })
const lost = () => { throw new TypeError('fetch failed') }

const page = async (options) => (await newPage()).intents({
  user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), sleep: async () => {}, ...options,
})

const send = async (script, options) => {
  const checkout = (await newPage()).intents({
    user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), sleep: async () => {}, attempts: script.length,
    fetch: async () => script.shift()(), ...options,
  })
  return (await checkout.begin('o', PAYLOAD)).fetch(URL_).catch((error) => error)
}

test('response_of_an_error_is_the_last_response_if_there_was_one', async () => {
  const error = await send([busy, lost])
  assert.equal(error.response?.status, 503, `response is ${error.response}`)
})

test('cause_of_an_error_is_the_last_network_failure', async () => {
  const error = await send([lost, busy])
  assert.equal(error.cause?.message, 'fetch failed', `cause is ${error.cause}`)
})

test('an_intent_that_is_closed_during_a_wait_still_has_its_last_response', async () => {
  const storage = new FakeStorage()
  const error = await send([busy, busy], { storage, sleep: async () => storage.items.clear() })
  assert.deepEqual([error.reason, error.response?.status], ['closed', 503])
})

test('a_try_does_not_outlive_the_life_that_the_server_has_told', async () => {
  // The server keeps a key for 60 s from its first answer. It was paid at 1 s, and the answer was lost on the way.
  let clock = NOON, paidUntil = 0, charges = 0
  const slow = [1000, 1000, 20_000]
  const fetch = async () => {
    const take = slow.shift()
    // The connection takes so long, or as long as the client allows.
    clock += Math.min(take, timeouts.at(-1))
    if (take > timeouts.at(-1)) throw new TypeError('no connection in time')
    if (clock >= paidUntil) { charges++; paidUntil = clock + 60_000; throw new TypeError('the answer is lost') }
    return new Response('', { status: 409, headers: { 'retry-after': '45', 'idempotency-status': 'in-flight; lifetime=60' } })
  }
  const real = AbortSignal.timeout, timeouts = []
  AbortSignal.timeout = (ms) => { timeouts.push(ms); return real(2 ** 30) }
  try {
    const checkout = (await newPage()).intents({
      user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), fetch, now: () => clock, random: () => 0,
      sleep: async (ms) => { clock += ms }, attempts: 3,
    })
    await (await checkout.begin('o', PAYLOAD)).fetch(URL_).catch((error) => error)
  } finally { AbortSignal.timeout = real }
  assert.equal(charges, 1)
  // Nine tenths of 60 s, of which 47 s have passed.
  assert.deepEqual(timeouts, [30_000, 30_000, 7000])
})

test('the_life_that_the_server_has_told_is_not_forgotten_by_the_next_lost_try', async () => {
  // TTL 60 s. Paid at once, the answer is lost; the second try is told `lifetime=60`; then the network is away.
  let clock = NOON, paidUntil = 0, charges = 0, tries = 0
  const begins = []
  const fetch = async () => {
    tries++
    begins.push(clock - NOON)
    if (tries == 3) throw new TypeError('no network')
    if (clock >= paidUntil) { charges++; paidUntil = clock + 60_000; throw new TypeError('the answer is lost') }
    return new Response('', { status: 409, headers: { 'retry-after': '1', 'idempotency-status': 'in-flight; lifetime=60' } })
  }
  const checkout = (await newPage()).intents({
    user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), fetch, now: () => clock, random: () => 0.999,
    sleep: async (ms) => { clock += ms }, base: 20_000, attempts: 5,
  })
  await (await checkout.begin('o', PAYLOAD)).fetch(URL_).catch((error) => error)
  assert.equal(charges, 1, `charged ${charges} times; tries began at ${begins} ms`)
})

test('no_try_begins_after_the_budget_although_the_wait_was_longer_than_asked', async () => {
  // "No try of one call of `fetch` begins later than this after the first." The laptop sleeps during the wait.
  let clock = NOON
  const begins = []
  const fetch = async () => { begins.push(clock - NOON); return busy() }
  const checkout = (await newPage()).intents({
    user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), fetch, now: () => clock, sleep: async () => { clock += 2 * 3_600_000 },
  })
  const error = await (await checkout.begin('o', PAYLOAD)).fetch(URL_).catch((error) => error)
  assert.ok(begins.every((ms) => ms <= 120_000), `tries began at ${begins} ms, and it ended as ${error.reason}`)
})

test('a_try_does_not_outlive_the_life_that_is_configured', async () => {
  const real = AbortSignal.timeout, timeouts = []
  AbortSignal.timeout = (ms) => { timeouts.push(ms); return real(2 ** 30) }
  try { await send([busy], { lifetime: 20_000, margin: 0, now: () => NOON }) } finally { AbortSignal.timeout = real }
  assert.deepEqual(timeouts, [20_000])
})

test('the_budget_is_not_prolonged_by_a_clock_that_is_set_back_a_little', async (t) => {
  // The wall clock is corrected by one second less than the margin, once. True time goes on.
  let wall = NOON, passed = 0, begun
  const begins = []
  const fetch = async () => { begins.push(passed - (begun ??= passed)); return new Response('', { status: 503, headers: { 'retry-after': '100' } }) }
  const sleep = async (ms) => { passed += ms; wall += ms; if (begins.length == 1) wall -= 300_000 - 1000 }
  t.mock.method(performance, 'now', () => passed)
  const checkout = (await newPage()).intents({ user: 'ann', storage: null, fetch, sleep, now: () => wall, random: () => 0 })
  const intent = await checkout.begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_), { name: 'Undecided' })
  assert.ok(begins.every((ms) => ms <= 120_000), `tries began ${begins} ms after the first`)
})

test('every_try_goes_to_the_address_that_was_given_to_the_call', async () => {
  const seen = []
  const server = await serve((request, response, entry, number) => {
    seen.push(request.url)
    answer(response, { status: number == 1 ? 503 : 201, json: {} })
  })
  try {
    // One URL object that the application changes for its next request.
    const url = new URL(`http://127.0.0.1:${server.port}/orders/1/confirm`)
    const checkout = await page({ sleep: async () => { url.pathname = '/orders/2/confirm' } })
    const intent = await checkout.begin('order-1', PAYLOAD)
    await intent.fetch(url, { body: '{}' })
    assert.deepEqual(seen, ['/orders/1/confirm', '/orders/1/confirm'])
  } finally { await server.close() }
})

test('a_relative_address_is_that_of_the_page_where_the_call_began', async () => {
  const seen = []
  const server = await serve((request, response, entry, number) => {
    seen.push(request.url)
    answer(response, { status: number == 1 ? 503 : 201, json: {} })
  })
  // What `history.pushState` does to the base of relative URLs, in Node's own fetch.
  const origin = Symbol.for('undici.globalOrigin.1')
  const goTo = (path) => Object.defineProperty(globalThis, origin, { configurable: true, writable: true, value: new URL(`http://127.0.0.1:${server.port}${path}`) })
  try {
    goTo('/orders/1/')
    const checkout = await page({ sleep: async () => goTo('/orders/2/') })
    const intent = await checkout.begin('order-1', PAYLOAD)
    await intent.fetch('confirm', { body: '{}' })
    assert.deepEqual(seen, ['/orders/1/confirm', '/orders/1/confirm'])
  } finally {
    delete globalThis[origin]
    await server.close()
  }
})
