// The two-line form.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answer, newPage, serve } from './support.js'

const quick = { sleep: async () => {} }
const URL_ = 'https://example.com/payments'

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

/** A network of one caller: it has the caller's credentials, and keeps the keys that were sent. */
const network = (play) => {
  const keys = []
  const fetch = async (url, { headers }) => {
    keys.push(headers.get('idempotency-key'))
    return play(keys.length)
  }
  return { keys, fetch }
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

test('a_success_that_is_not_json_is_undecided_until_the_application_has_looked', async () => {
  const server = await serve(async (request, response, entry) => {
    await entry.body
    answer(response, { status: 200 })
  })
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  const failed = () => createPaymentWithRetry({ amount: 10 }).then(() => assert.fail('an answer'), (error) => error)
  await failed()
  const error = await failed()
  assert.equal(new Set(server.seen.map(({ key }) => key)).size, 1)
  assert.deepEqual([error.name, error.reason, error.cause.name], ['Undecided', 200, 'SyntaxError'])
  assert.equal(await error.response.text(), 'answer 200')

  await error.intent.done()
  await failed()
  assert.notEqual(server.seen[2].key, server.seen[1].key)
  await server.close()
})

for (const [status, headers] of [[204], [200], [201, { 'idempotent-replayed': 'true' }]]) {
  test(`a_${status}_without_a_body_is_an_answer_and_the_next_call_is_another_payment`, async () => {
    const { keys, fetch } = network(() => new Response(null, { status, headers }))
    const createPaymentWithRetry = (await newPage()).retrying(URL_, { ...quick, fetch })
    assert.equal(await createPaymentWithRetry({ amount: 10 }), undefined)
    await createPaymentWithRetry({ amount: 10 })
    assert.equal(new Set(keys).size, 2)
  })
}

for (const body of [null, '<h1>Forbidden</h1>']) {
  test(`a_403_${body ? 'that_is_not_json' : 'without_a_body'}_is_no_success_and_the_key_is_kept_until_it_is_marked`, async () => {
    const { keys, fetch } = network((call) => new Response(body, { status: 403, headers: call > 1 ? { 'idempotent-replayed': 'true' } : {} }))
    const createPaymentWithRetry = (await newPage()).retrying(URL_, { ...quick, fetch })
    for (let call = 0; call < 3; call++) {
      await assert.rejects(createPaymentWithRetry({ amount: 10 }), ({ name, reason, response }) => {
        return name == 'Refused' && reason == 403 && response.status == 403
      })
    }
    assert.equal(keys[1], keys[0])
    assert.notEqual(keys[2], keys[1])
  })
}

test('a_refusal_is_handed_over_as_json_and_the_key_is_kept_until_it_is_marked', async () => {
  const server = await serve(async (request, response, entry, count) => {
    await entry.body
    answer(response, { status: 402, json: { error: 'card declined' }, headers: count > 1 ? { 'idempotent-replayed': 'true' } : {} })
  })
  const createPaymentWithRetry = (await newPage()).retrying(server.url, quick)
  for (let call = 0; call < 3; call++) assert.deepEqual(await createPaymentWithRetry({ amount: 10 }), { error: 'card declined' })
  const [first, second, third] = server.seen.map(({ key }) => key)
  assert.equal(second, first)
  assert.notEqual(third, second)
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

test('functions_with_a_fetch_of_their_own_share_no_answer', async () => {
  const { retrying } = await newPage()
  const ann = network(() => Response.json({ paidBy: 'ann' })), bob = network(() => Response.json({ paidBy: 'bob' }))
  const both = [ann, bob].map(({ fetch }) => retrying(URL_, { ...quick, fetch })({ plan: 'pro' }))
  assert.deepEqual((await Promise.all(both)).map(({ paidBy }) => paidBy), ['ann', 'bob'])
  assert.equal(new Set([...ann.keys, ...bob.keys]).size, 2)
})

test('a_key_that_is_undecided_is_not_sent_by_a_function_with_another_fetch', async () => {
  const { retrying } = await newPage()
  const ann = network(() => new Response('{}', { status: 503 })), bob = network(() => Response.json({}))
  await assert.rejects(retrying(URL_, { ...quick, fetch: ann.fetch })({ plan: 'pro' }, { maxRetries: 0 }), { name: 'Undecided' })
  await retrying(URL_, { ...quick, fetch: bob.fetch })({ plan: 'pro' })
  assert.equal(bob.keys.length, 1)
  assert.notEqual(bob.keys[0], ann.keys[0])
})

test('options_that_are_changed_later_do_not_change_whose_keys_they_are', async () => {
  const { retrying } = await newPage()
  const ann = network(() => Response.json({ paidBy: 'ann' })), bob = network(() => Response.json({ paidBy: 'bob' }))
  const options = { ...quick, fetch: ann.fetch }
  const payAsAnn = retrying(URL_, options)
  options.fetch = bob.fetch
  const payAsBob = retrying(URL_, options)
  const both = await Promise.all([payAsAnn({ plan: 'pro' }), payAsBob({ plan: 'pro' })])
  assert.deepEqual(both.map(({ paidBy }) => paidBy), ['ann', 'bob'])
})

for (const [what, own] of [['the_default_fetch', {}], ['the_same_fetch', { fetch: (...call) => fetch(...call) }]]) {
  test(`a_function_that_is_made_again_with_${what}_knows_the_key_and_the_call`, async () => {
    // As a component does that makes its function at each rendering.
    const server = await payments(['lose', 'lose'])
    const { retrying } = await newPage()
    const click = (options) => retrying(server.url, { ...quick, ...own })({ amount: 10 }, options)
    await assert.rejects(click({ maxRetries: 0 }), { name: 'Undecided' })
    const both = await Promise.all([click(), click()])
    assert.deepEqual(both.map(({ id }) => id), [1, 1])
    assert.equal(server.seen.length, 3)
    assert.equal(server.ledger.size, 1)
    await server.close()
  })
}
