// The two-line form.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answer, newPage, serve } from './support.js'

const quick = { sleep: async () => {} }

const payments = async (faults) => {
  const ledger = new Map()
  const server = await serve(async (request, response, entry, count) => {
    const { amount } = JSON.parse(await entry.body)
    if (faults[count - 1] === 'refuse') return answer(response, { status: 503 })
    const replayed = ledger.has(entry.key)
    if (!replayed) ledger.set(entry.key, { id: ledger.size + 1, amount })
    if (faults[count - 1] === 'lose') return response.socket.resetAndDestroy()
    answer(response, { status: 201, json: ledger.get(entry.key), headers: replayed ? { 'idempotent-replayed': 'true' } : {} })
  })
  return { ...server, ledger }
}

test('two_lines_pay_once_although_the_answer_is_lost', async () => {
  const server = await payments(['lose', 'refuse', 'lose'])
  const { retrying } = await newPage()
  const data = { amount: 10 }

  const createPaymentWithRetry = retrying(server.url, quick)
  const payment = await createPaymentWithRetry(data, { maxRetries: 3 })

  assert.deepEqual(payment, { id: 1, amount: 10 })
  assert.equal(server.seen.length, 4)
  assert.equal(server.seen[0].headers['content-type'], 'application/json')
  await server.close()
})

test('each_call_after_an_answer_is_another_payment', async () => {
  const server = await payments([])
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  assert.equal((await createPaymentWithRetry({ amount: 10 })).id, 1)
  assert.equal((await createPaymentWithRetry({ amount: 10 })).id, 2)
  await server.close()
})

test('two_clicks_are_one_payment', async () => {
  const server = await payments(['lose'])
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  const both = await Promise.all([createPaymentWithRetry({ amount: 10 }), createPaymentWithRetry({ amount: 10 })])
  assert.deepEqual(both.map(({ id }) => id), [1, 1])
  assert.equal(server.seen.length, 2)
  assert.equal(server.ledger.size, 1)
  await server.close()
})

test('max_retries_used_up_is_undecided_and_the_next_call_has_the_same_key', async () => {
  const server = await payments(['lose', 'lose'])
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  await assert.rejects(createPaymentWithRetry({ amount: 10 }, { maxRetries: 1 }), { name: 'Undecided', reason: 'attempts' })
  assert.equal(server.seen.length, 2)
  assert.equal((await createPaymentWithRetry({ amount: 10 })).id, 1)
  assert.equal(server.ledger.size, 1)
  await server.close()
})

test('an_answer_that_is_not_json_keeps_the_key', async () => {
  const server = await serve(async (request, response, entry) => {
    await entry.body
    answer(response, { status: 200 })
  })
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  await assert.rejects(createPaymentWithRetry({ amount: 10 }), SyntaxError)
  await assert.rejects(createPaymentWithRetry({ amount: 10 }), SyntaxError)
  assert.equal(new Set(server.seen.map(({ key }) => key)).size, 1)
  await server.close()
})

test('a_refusal_of_the_handler_is_handed_over_as_json', async () => {
  const server = await serve(async (request, response, entry) => {
    await entry.body
    answer(response, { status: 402, json: { error: 'card declined' } })
  })
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  assert.deepEqual(await createPaymentWithRetry({ amount: 10 }), { error: 'card declined' })
  await createPaymentWithRetry({ amount: 10 })
  assert.equal(new Set(server.seen.map(({ key }) => key)).size, 2)
  await server.close()
})

test('a_stored_500_is_undecided_and_the_next_call_has_the_same_key', async () => {
  const server = await serve(async (request, response, entry, count) => {
    await entry.body
    answer(response, { status: 500, json: { code: 'handler-failed' }, headers: count > 1 ? { 'idempotent-replayed': 'true' } : {} })
  })
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  for (let call = 0; call < 2; call++) {
    await assert.rejects(createPaymentWithRetry({ amount: 10 }), ({ name, reason, response }) => {
      return name == 'Undecided' && reason == 500 && response.status == 500
    })
  }
  assert.equal(new Set(server.seen.map(({ key }) => key)).size, 1)
  await server.close()
})
