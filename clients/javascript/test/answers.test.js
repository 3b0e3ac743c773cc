// How an answer is read.
import assert from 'node:assert/strict'
import { createServer as createTcpServer } from 'node:net'
import { test } from 'node:test'
import { FakeLocks, FakeStorage, newPage } from './support.js'

const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'
const NOON = 1_767_268_800_000

const page = async (options) => (await newPage()).intents({
  user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), sleep: async () => {}, ...options,
})

for (const phrase of ['Создано', 'Cr\xe9\xe9']) {
  test(`a_success_with_the_reason_phrase_${phrase}_is_a_success`, async () => {
    let tries = 0
    const server = createTcpServer((socket) => socket.once('data', () => {
      tries++
      const encoding = phrase.includes('\xe9') ? 'latin1' : 'utf8'
      socket.end(Buffer.from(`HTTP/1.1 201 ${phrase}\r\ncontent-length: 4\r\nconnection: close\r\n\r\npaid`, encoding))
    }).on('error', () => {}))
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const url = `http://127.0.0.1:${server.address().port}/`
      // fetch itself hands it over.
      assert.equal((await fetch(url, { method: 'POST' })).status, 201)
      const intent = await (await page()).begin('o', PAYLOAD)
      const response = await intent.fetch(url).catch((error) => error)
      assert.equal(response.status, 201, `${response.name} ${response.reason} after ${tries - 1} tries: ${response.cause}`)
    } finally { server.close() }
  })
}

test('the_lifetime_that_the_server_says_is_heard_wherever_the_parameter_stands', async () => {
  for (const status of ['in-flight; lifetime=60', 'in-flight; lifetime=60; attempt=2', 'in-flight; lifetime=60 ']) {
    let clock = NOON, calls = 0
    const fetch = async () => {
      calls++
      return new Response('', { status: 409, headers: { 'idempotency-status': status, 'retry-after': '70' } })
    }
    const intent = await (await page({ fetch, now: () => clock, sleep: async (ms) => { clock += ms } })).begin('o', PAYLOAD)
    // The server keeps the key for 60 s, and asks to wait for 70.
    await assert.rejects(intent.fetch(URL_), { name: 'Undecided', reason: 'lifetime' }, status)
    assert.equal(calls, 1, status)
  }
})

test('an_unknown_code_is_not_the_reason', async () => {
  // A gate that says more than its status, in RFC 9457's form.
  const gate = () => new Response('{"code":"token_expired"}', { status: 401, headers: { 'content-type': 'application/problem+json' } })
  const script = [() => { throw new TypeError('fetch failed') }, gate]
  const intent = await (await page({ fetch: async () => script.shift()() })).begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_), { name: 'Undecided', reason: 401 })
})

test('a_media_type_has_no_case', async () => {
  let runs = 0
  const fetch = async () => {
    runs++
    return new Response('{"code":"unprotected-route"}', { status: 501, headers: { 'content-type': 'application/Problem+JSON' } })
  }
  const intent = await (await page({ fetch })).begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_), { name: 'Undecided' })
  assert.equal(runs, 1, `the handler has run ${runs} times`)
})

test('what_has_run_without_protection_is_not_run_again', async () => {
  // `OnStoreFailure::FailOpen`: the handler has run without a record, has charged, and then failed.
  let charges = 0
  const fetch = async () => {
    charges++
    return new Response('mail server down', { status: 500, headers: { 'idempotency-degraded': 'true', 'idempotency-status': 'unprotected; lifetime=86400' } })
  }
  const intent = await (await page({ fetch })).begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_), { name: 'Undecided' })
  assert.equal(charges, 1, `charged ${charges} times`)
})

test('two_marks_that_agree_are_a_mark', async () => {
  for (const [mark, key] of [['true, true', 'another'], ['true,true', 'another'], ['true, false', 'the same']]) {
    const fetch = async () => new Response('declined', { status: 402, headers: { 'idempotent-replayed': mark } })
    const checkout = await page({ fetch }), intent = await checkout.begin('o', PAYLOAD)
    assert.equal((await intent.fetch(URL_)).status, 402)
    assert.equal((await checkout.begin('o', PAYLOAD)).key == intent.key ? 'the same' : 'another', key, mark)
  }
})

test('an_answer_that_cannot_be_shown_is_an_error_and_not_a_lost_answer', async () => {
  let tries = 0
  const fetch = async () => { tries++; return { status: 999, headers: new Headers(), arrayBuffer: async () => new ArrayBuffer(1) } }
  const checkout = await page({ fetch }), intent = await checkout.begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_), RangeError)
  assert.equal(tries, 1)
  assert.equal((await checkout.begin('o', PAYLOAD)).key, intent.key)
})
