// The intent: one key from the first try to the application's acknowledgment.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { defaults } from '../index.js'
import { answer, FakeLocks, FakeStorage, newPage, serve, SlowStorage, turn } from './support.js'

const DAY = 86_400_000
const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'

const reply = (status, headers, body = 'x') => new Response([204, 304].includes(status) ? null : body, { status, headers })
const reset = () => { throw new TypeError('fetch failed') }
const MARK = { 'idempotent-replayed': 'true' }

/** A browser: one storage, one lock manager, a clock, and a network that answers from a script. */
const browser = (script = [], { storage = new FakeStorage(), locks = new FakeLocks(), ...more } = {}) => {
  const world = { storage, locks, clock: 1_767_225_600_000, calls: [], waits: [], script }
  world.page = async (options) => (await newPage()).intents({
    user: 'ann', storage: world.storage, locks: world.locks,
    now: () => world.clock,
    random: () => 0.5,
    sleep: async (ms) => { world.waits.push(ms); await world.onWait?.() },
    fetch: async (url, init) => {
      world.calls.push({ url, key: init.headers.get('idempotency-key'), init, body: init.body && Buffer.from(init.body).toString('latin1') })
      const next = world.script.length > 1 ? world.script.shift() : world.script[0]
      return typeof next === 'function' ? next(init) : next.clone()
    },
    ...more, ...options,
  })
  world.keys = () => new Set(world.calls.map(({ key }) => key))
  return world
}

const rejected = async (promise, name, reason) => {
  const error = await promise.then(() => assert.fail(`no ${name}`), (error) => error)
  assert.equal(error.name, name, error.stack)
  assert.equal(error.reason, reason)
  return error
}

describe('one key', () => {
  test('second_begin_in_the_page_gets_the_same_key', async () => {
    const checkout = await browser().page()
    const [one, two] = await Promise.all([checkout.begin('o', PAYLOAD), checkout.begin('o', PAYLOAD)])
    assert.equal(one.key, two.key)
  })

  test('reload_gets_the_same_key', async () => {
    const world = browser()
    const before = await (await world.page()).begin('o', PAYLOAD)
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, before.key)
  })

  test('two_tabs_that_begin_at_once_get_the_same_key', async () => {
    for (let tabs = 2; tabs <= 5; tabs++) {
      const world = browser([], { storage: new SlowStorage() })
      const pages = await Promise.all(Array.from({ length: tabs }, () => world.page()))
      const begun = await Promise.all(pages.map((page) => page.begin('o', PAYLOAD)))
      assert.equal(new Set(begun.map(({ key }) => key)).size, 1)
    }
  })

  test('two_clicks_without_web_locks_get_the_same_key', async () => {
    const checkout = await browser([], { storage: new SlowStorage() }).page({ locks: null })
    const begun = await Promise.all([1, 2, 3].map(() => checkout.begin('o', PAYLOAD)))
    assert.equal(new Set(begun.map(({ key }) => key)).size, 1)
  })

  test('a_call_that_waits_is_not_overtaken_when_the_one_before_it_ends', async () => {
    const checkout = await browser([], { storage: new SlowStorage() }).page({ locks: null })
    const intent = await checkout.begin('o', PAYLOAD)
    const before = checkout.begin('o', PAYLOAD), done = intent.done()
    await before
    assert.notEqual((await checkout.begin('o', PAYLOAD)).key, intent.key)
    await done
  })

  test('second_fetch_of_an_open_intent_sends_the_same_key_in_either_tab', async () => {
    const world = browser([reply(201)])
    const [a, b] = [await world.page(), await world.page()]
    const one = await a.begin('o', PAYLOAD), two = await b.begin('o', PAYLOAD)
    await Promise.all([one.fetch(URL_), one.fetch(URL_), two.fetch(URL_)])
    assert.equal(world.calls.length, 3)
    assert.equal(world.keys().size, 1)
  })

  test('other_names_and_other_users_have_other_keys', async () => {
    const world = browser()
    const ann = await world.page(), bob = await world.page({ user: 'bob' })
    const keys = [await ann.begin('o', PAYLOAD), await ann.begin('p', PAYLOAD), await bob.begin('o', PAYLOAD)]
    assert.equal(new Set(keys.map(({ key }) => key)).size, 3)
    assert.deepEqual((await ann.unfinished()).map(({ name }) => name).sort(), ['o', 'p'])
    assert.deepEqual((await bob.unfinished()).map(({ name }) => name), ['o'])
  })

  test('a_user_and_a_name_cannot_be_taken_for_another_pair', async () => {
    const world = browser()
    const one = await (await world.page({ user: 'a' })).begin('"b', PAYLOAD)
    const two = await (await world.page({ user: 'a"' })).begin('b', PAYLOAD)
    assert.notEqual(one.key, two.key)
    assert.equal(world.storage.length, 2)
  })

  test('the_key_cannot_be_overwritten_by_the_headers_of_the_call', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await intent.fetch(URL_, { headers: { 'Idempotency-Key': 'mine', accept: 'text/plain' } })
    assert.equal(world.calls[0].key, `"${intent.key}"`)
    assert.equal(world.calls[0].init.headers.get('accept'), 'text/plain')
  })

  test('a_key_of_the_application_and_another_header', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page({ newKey: () => '01J-abc', header: 'X-Request-Key' })).begin('o', PAYLOAD)
    await intent.fetch(URL_)
    assert.equal(world.calls[0].init.headers.get('x-request-key'), '"01J-abc"')
  })
})

describe('the end of an intent', () => {
  test('reload_between_the_answer_and_what_the_application_does_is_no_second_charge', async () => {
    const world = browser([reply(201), reply(201, MARK)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await intent.fetch(URL_)
    const again = await (await world.page()).begin('o', PAYLOAD)
    await again.fetch(URL_)
    assert.equal(world.keys().size, 1)
  })

  test('after_done_the_same_payload_is_another_intent', async () => {
    const world = browser([reply(201)])
    const checkout = await world.page()
    const intent = await checkout.begin('o', PAYLOAD)
    await intent.fetch(URL_)
    await intent.done()
    assert.equal(world.storage.length, 0)
    assert.notEqual((await checkout.begin('o', PAYLOAD)).key, intent.key)
  })

  test('a_new_page_finds_what_is_unfinished_and_can_finish_it', async () => {
    const world = browser([reset, reply(201, MARK)])
    const intent = await (await world.page({ attempts: 1 })).begin('order-1', PAYLOAD)
    await rejected(intent.fetch(URL_), 'Undecided', 'attempts')
    const [found, ...more] = await (await world.page()).unfinished()
    assert.deepEqual([found.name, found.key, found.created, more.length], ['order-1', intent.key, world.clock, 0])
    assert.equal((await found.fetch(URL_)).status, 201)
    await found.done()
    assert.deepEqual(await (await world.page()).unfinished(), [])
  })

  test('done_in_another_tab_stops_the_retries_of_this_one', async () => {
    // Otherwise this tab would go on with the old key while the other one begins anew.
    const world = browser([reset])
    const here = await (await world.page()).begin('o', PAYLOAD)
    const there = await (await world.page()).begin('o', PAYLOAD)
    world.onWait = () => there.done()
    await rejected(here.fetch(URL_), 'Undecided', 'closed')
    assert.equal(world.calls.length, 1)
  })

  test('a_key_that_was_replaced_is_not_sent_and_not_written_back', async () => {
    const world = browser([reset, reply(201)])
    const checkout = await world.page()
    const old = await checkout.begin('o', PAYLOAD)
    await old.done()
    const current = await checkout.begin('o', PAYLOAD)
    await rejected(old.fetch(URL_), 'Undecided', 'closed')
    await old.done()
    assert.equal(world.calls.length, 0)
    assert.equal((await checkout.begin('o', PAYLOAD)).key, current.key)
  })

  test('unauthorized_in_one_tab_while_another_is_waiting_keeps_the_key', async () => {
    let release
    const slow = new Promise((resolve) => { release = resolve })
    const world = browser([() => slow, reply(401), reply(401)])
    const here = await (await world.page()).begin('o', PAYLOAD)
    const first = here.fetch(URL_)
    while (world.calls.length < 1) await turn()
    const there = await (await world.page()).begin('o', PAYLOAD)
    await rejected(there.fetch(URL_), 'Undecided', 401)
    await rejected(here.fetch(URL_), 'Undecided', 401)
    release(reply(201))
    assert.equal((await first).status, 201)
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, here.key)
  })

  test('unauthorized_at_the_first_try_while_another_tab_has_sent_keeps_the_key', async () => {
    let release
    const slow = new Promise((resolve) => { release = resolve })
    const world = browser([() => slow, reset])
    const here = await (await world.page()).begin('o', PAYLOAD)
    const first = here.fetch(URL_)
    while (world.calls.length < 1) await turn()
    const there = await (await world.page({ attempts: 1 })).begin('o', PAYLOAD)
    await rejected(there.fetch(URL_), 'Undecided', 'attempts')
    release(reply(401))
    await rejected(first, 'Undecided', 401)
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, here.key)
  })

  test('unauthorized_after_a_reload_keeps_the_key', async () => {
    const world = browser([reset, reply(401)])
    const before = await (await world.page({ attempts: 1 })).begin('o', PAYLOAD)
    await rejected(before.fetch(URL_), 'Undecided', 'attempts')
    const again = await (await world.page()).begin('o', PAYLOAD)
    const error = await rejected(again.fetch(URL_), 'Undecided', 401)
    assert.equal(error.response.status, 401)
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, before.key)
  })
})

describe('questions to the application', () => {
  test('another_payload_under_an_open_name_is_intent_changed', async () => {
    const world = browser([reply(201)])
    const checkout = await world.page()
    const intent = await checkout.begin('o', PAYLOAD)
    const error = await rejected(checkout.begin('o', { ...PAYLOAD, amount: 11 }), 'IntentChanged', 'payload')
    assert.equal(error.intent.key, intent.key)
    assert.equal(error.intent.name, 'o')
    await error.intent.done()
    assert.notEqual((await checkout.begin('o', { ...PAYLOAD, amount: 11 })).key, intent.key)
  })

  test('another_payload_is_asked_about_after_the_answer_too', async () => {
    const world = browser([reply(201)])
    const checkout = await world.page()
    await (await checkout.begin('o', PAYLOAD)).fetch(URL_)
    await rejected(checkout.begin('o', { amount: 11 }), 'IntentChanged', 'payload')
  })

  for (const [what, ms] of [['over', DAY], ['over_but_for_the_margin', DAY - 300_000], ['unknown_because_the_clock_went_back', -300_001]]) {
    test(`life_of_the_key_${what}_is_undecided_and_never_a_new_key`, async () => {
      const world = browser([reply(201)])
      const checkout = await world.page({ attempts: 1 })
      const intent = await checkout.begin('o', PAYLOAD)
      world.clock += ms
      const error = await rejected(checkout.begin('o', PAYLOAD), 'Undecided', 'lifetime')
      assert.equal(error.intent.key, intent.key)
      await rejected(intent.fetch(URL_), 'Undecided', 'lifetime')
      assert.equal(world.calls.length, 0)
      assert.equal((await checkout.unfinished()).length, 1)
      await error.intent.done()
      assert.notEqual((await checkout.begin('o', PAYLOAD)).key, intent.key)
    })
  }

  test('clock_that_jumps_during_a_wait_stops_before_the_next_try', async () => {
    const world = browser([reset])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    world.onWait = () => { world.clock += 2 * DAY }
    await rejected(intent.fetch(URL_), 'Undecided', 'lifetime')
    assert.equal(world.calls.length, 1)
  })

  test('clock_that_jumps_to_and_fro_is_no_endless_loop', async () => {
    const world = browser([reset])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    world.onWait = () => { world.clock += world.clock % 2 ? 100_001 : -100_001 }
    await rejected(intent.fetch(URL_), 'Undecided', 'attempts')
    assert.equal(world.calls.length, 6)
  })
})

describe('storage', () => {
  test('a_digest_only_is_stored', async () => {
    const world = browser([reply(201)])
    const payload = { card: '4242424242424242', name: 'Ann Example' }
    const intent = await (await world.page()).begin('order-1', payload)
    await intent.fetch(URL_, { body: JSON.stringify(payload) })
    const [[item, json]] = world.storage.items
    assert.equal(item, 'idempotent"ann"order-1')
    assert.deepEqual(Object.keys(JSON.parse(json)).sort(), ['created', 'digest', 'key', 'latest', 'sent'])
    assert.ok(!json.includes('4242') && !json.includes('Example'))
    const expected = [...createHash('sha256').update(intent.key + JSON.stringify(payload)).digest()].join()
    assert.equal(JSON.parse(json).digest, expected)
  })

  for (const damage of ['', '{', 'null', '5', '"text"', '0', 'false', '""', '[]', '{}', '{"key":{}}', '{"key":""}', '{"key":"a b"}', '{"key":7.5e300,"x":', `{"key":"${'k'.repeat(256)}"}`]) {
    test(`damaged_record_is_a_question_and_never_a_new_key: ${damage.slice(0, 20)}`, async () => {
      const world = browser([reply(201)])
      await (await world.page()).begin('o', PAYLOAD)
      const [item] = world.storage.items.keys()
      world.storage.items.set(item, damage)
      const checkout = await world.page()
      const error = await rejected(checkout.begin('o', PAYLOAD), 'Undecided', 'damaged')
      await rejected(error.intent.fetch(URL_), 'Undecided', 'damaged')
      await rejected((await checkout.unfinished())[0].fetch(URL_), 'Undecided', 'damaged')
      assert.equal(world.calls.length, 0)
      await error.intent.done()
      assert.ok((await checkout.begin('o', PAYLOAD)).key)
    })
  }

  test('record_with_another_key_digest_or_time_is_a_question', async () => {
    for (const [change, name, reason] of [
      [{ key: 'another-key' }, 'IntentChanged', 'payload'],
      [{ digest: undefined }, 'IntentChanged', 'payload'],
      [{ created: undefined }, 'Undecided', 'lifetime'],
      [{ created: 'yesterday' }, 'Undecided', 'lifetime'],
    ]) {
      const world = browser()
      await (await world.page()).begin('o', PAYLOAD)
      const [[item, json]] = world.storage.items
      world.storage.items.set(item, JSON.stringify({ ...JSON.parse(json), ...change }))
      await rejected((await world.page()).begin('o', PAYLOAD), name, reason)
    }
  })

  test('record_without_its_count_counts_as_sent', async () => {
    const world = browser([reply(401)])
    await (await world.page()).begin('o', PAYLOAD)
    const [[item, json]] = world.storage.items
    world.storage.items.set(item, JSON.stringify({ ...JSON.parse(json), sent: undefined }))
    await rejected((await (await world.page()).begin('o', PAYLOAD)).fetch(URL_), 'Undecided', 401)
  })

  test('damage_under_an_intent_in_use_stops_it', async () => {
    const world = browser([reset])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    world.onWait = () => { for (const item of world.storage.items.keys()) world.storage.items.set(item, '{') }
    await rejected(intent.fetch(URL_), 'Undecided', 'closed')
    assert.equal(world.calls.length, 1)
  })

  // Such as IndexedDB, which is blocked for a moment by an upgrade in another tab.
  test('a_storage_that_was_given_and_fails_at_first_makes_no_new_key', async () => {
    let busy = false
    const storage = new FakeStorage(() => { if (busy) throw new DOMException('blocked', 'InvalidStateError') })
    const world = browser([reset, reset, reset, reply(201)], { storage })
    const before = await (await world.page()).begin('o', PAYLOAD)
    busy = true
    const checkout = await world.page()
    await assert.rejects(checkout.begin('o', PAYLOAD), { name: 'InvalidStateError' })
    busy = false
    const intent = await checkout.begin('o', PAYLOAD)
    assert.equal(intent.key, before.key)
    assert.equal((await intent.fetch(URL_)).status, 201)
    assert.equal(world.keys().size, 1)
  })

  test('storage_that_fails_later_is_an_error_and_never_a_new_key', async () => {
    let broken = false
    const storage = new FakeStorage(() => { if (broken) throw new DOMException('gone', 'UnknownError') })
    const world = browser([reply(201)], { storage })
    const checkout = await world.page()
    const intent = await checkout.begin('o', PAYLOAD)
    broken = true
    await assert.rejects(checkout.begin('o', PAYLOAD), { name: 'UnknownError' })
    await assert.rejects(intent.fetch(URL_), { name: 'UnknownError' })
    await assert.rejects(intent.done(), { name: 'UnknownError' })
    assert.equal(world.calls.length, 0)
    broken = false
    assert.equal((await checkout.begin('o', PAYLOAD)).key, intent.key)
  })

  test('storage_that_fails_during_a_try_does_not_lose_the_answer', async () => {
    let broken = false
    const storage = new FakeStorage(() => { if (broken) throw new DOMException('gone', 'UnknownError') })
    const world = browser([() => { broken = true; return reply(201) }], { storage })
    const intent = await (await world.page()).begin('o', PAYLOAD)
    assert.equal((await intent.fetch(URL_)).status, 201)
  })

  test('an_intent_whose_removal_fails_stays_open', async () => {
    let broken = false
    const storage = new FakeStorage((method) => { if (broken && method === 'removeItem') throw new Error('no') })
    const world = browser([reply(402, MARK)], { storage })
    const checkout = await world.page()
    const intent = await checkout.begin('o', PAYLOAD)
    broken = true
    assert.equal((await intent.fetch(URL_)).status, 402)
    assert.equal((await checkout.begin('o', PAYLOAD)).key, intent.key)
  })

  test('an_async_storage_works', async () => {
    const world = browser([reset, reply(201)], { storage: new SlowStorage() })
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await intent.fetch(URL_)
    assert.equal((await (await world.page()).unfinished()).length, 1)
    await intent.done()
    assert.equal(world.storage.length, 0)
  })

  /** A storage in which each call for items that end with `name` never settles. */
  const hanging = (name) => {
    const storage = new SlowStorage()
    const { getItem } = storage
    storage.getItem = (item) => (item.endsWith(name) ? new Promise(() => {}) : getItem.call(storage, item))
    return storage
  }

  for (const locks of [new FakeLocks(), null]) {
    test(`a_storage_that_hangs_stops_no_other_intent_${locks ? 'with' : 'without'}_web_locks`, { timeout: 5000 }, async () => {
      const world = browser([reset, reply(201)], { storage: hanging('hangs'), locks })
      const checkout = await world.page()
      checkout.begin('hangs', PAYLOAD)
      const intent = await checkout.begin('o', PAYLOAD)
      assert.equal((await intent.fetch(URL_)).status, 201)
      await intent.done()
      assert.equal(world.storage.length, 0)
    })
  }

  test('a_storage_that_hangs_stops_no_other_user_of_the_module', { timeout: 5000 }, async () => {
    const { intents } = await newPage()
    intents({ user: 'ann', storage: hanging('') }).begin('o', PAYLOAD)
    assert.ok((await intents({ user: 'bob', storage: null }).begin('o', PAYLOAD)).key)
  })

  test('first_read_that_fails_while_another_finds_its_record_is_no_new_key', async () => {
    // Else the whole storage would be given up, and with it the key that was just found.
    const storage = new SlowStorage()
    const before = await (await browser([], { storage }).page()).begin('o', PAYLOAD)
    const { getItem } = storage
    storage.getItem = async (item) => {
      if (item.endsWith('fails')) throw new DOMException('gone', 'UnknownError')
      return getItem.call(storage, item)
    }
    const world = browser([reply(201)], { storage })
    const checkout = await world.page()
    const [found, failed] = await Promise.allSettled([checkout.begin('o', PAYLOAD), checkout.begin('fails', PAYLOAD)])
    assert.equal(failed.reason.name, 'UnknownError')
    assert.equal(found.value.key, before.key)
    assert.equal((await found.value.fetch(URL_)).status, 201)
    assert.equal((await checkout.begin('o', PAYLOAD)).key, before.key)
  })
})

describe('bytes', () => {
  const cases = {
    string: ['a=1&b=ä', 'text/plain;charset=UTF-8'],
    'URLSearchParams': [new URLSearchParams({ a: '1' }), 'application/x-www-form-urlencoded;charset=UTF-8'],
    'Uint8Array': [new Uint8Array([1, 2, 3]), null],
    'Blob': [new Blob(['abc'], { type: 'image/png' }), 'image/png'],
    'File': [new File(['abc'], 'a.png', { type: 'image/png' }), 'image/png'],
    'empty string': ['', 'text/plain;charset=UTF-8'],
  }
  for (const [what, [body, type]] of Object.entries(cases)) {
    test(`a ${what} is the same at each try`, async () => {
      const world = browser([reset, reset, reply(201)])
      await (await (await world.page()).begin('o', PAYLOAD)).fetch(URL_, { body })
      assert.equal(world.calls.length, 3)
      assert.equal(world.calls[0].init.headers.get('content-type'), type)
      assert.equal(new Set(world.calls.map((call) => call.body)).size, 1)
      assert.equal(world.calls[0].init.method, 'POST')
    })
  }

  test('a form has one boundary for all tries', async () => {
    const server = await serve(async (request, response, entry, count) => {
      await entry.body
      count < 3 ? response.socket.resetAndDestroy() : answer(response, { status: 201 })
    })
    const form = new FormData()
    form.set('amount', '10')
    form.set('receipt', new File(['abc'], 'receipt.txt'))
    const { intents } = await newPage()
    const intent = await intents({ user: 'ann', sleep: async () => {} }).begin('o', PAYLOAD)
    await intent.fetch(server.url, { body: form })
    const bodies = await Promise.all(server.seen.map(({ body }) => body))
    assert.equal(bodies.length, 3)
    assert.equal(new Set(bodies).size, 1)
    const types = new Set(server.seen.map(({ headers }) => headers['content-type']))
    assert.equal(types.size, 1)
    assert.ok(bodies[0].startsWith(`--${[...types][0].split('boundary=')[1]}`))
    await server.close()
  })

  test('a changed array does not change the retry', async () => {
    const body = new Uint8Array([1, 2, 3])
    const world = browser([() => { body[0] = 9; reset() }, reply(201)])
    await (await (await world.page()).begin('o', PAYLOAD)).fetch(URL_, { body })
    assert.deepEqual(world.calls.map((call) => call.body), ['\u0001\u0002\u0003', '\u0001\u0002\u0003'])
  })

  test('a_stream_is_refused_before_anything_is_sent', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await rejected(intent.fetch(URL_, { body: new Blob(['x']).stream(), duplex: 'half' }), 'Refused', 'body')
    await assert.rejects(intent.fetch(URL_, { body: (async function* () { yield 'x' })() }), TypeError)
    assert.equal(world.calls.length, 0)
  })

  test('a_request_object_is_a_mistake_that_is_thrown_before_anything_is_sent_or_read', async () => {
    // Its body can be sent once. As `init`, its properties would be lost: they are not its own.
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    const request = new Request(URL_, { method: 'POST', body: 'x' })
    for (const call of [[request], [request, { headers: { accept: '*/*' } }], [URL_, request]]) {
      await assert.rejects(intent.fetch(...call), { name: 'TypeError', message: /not a Request/ })
    }
    assert.equal(world.calls.length, 0)
    assert.equal(await request.text(), 'x')
  })

  test('a_mistake_in_the_call_is_thrown_and_not_retried', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    for (const [url, init] of [['/relative', {}], [URL_, { method: 'GE T' }], [URL_, { headers: { 'a b': '1' } }], [URL_, { method: 'GET', body: 'x' }], [URL_, { mode: 'no-cors' }]]) {
      await assert.rejects(intent.fetch(url, init), TypeError)
    }
    assert.equal(world.calls.length, 0)
  })

  test('the_answer_is_handed_over_whole', async () => {
    const world = browser([reply(201, { 'content-type': 'application/json', 'x-receipt': '7' }, '{"id":1}')])
    const response = await (await (await world.page()).begin('o', PAYLOAD)).fetch(URL_)
    assert.equal(response.headers.get('x-receipt'), '7')
    assert.deepEqual(await response.json(), { id: 1 })
  })

  test('redirects_are_not_followed_unless_the_call_says_so', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await intent.fetch(URL_)
    await intent.fetch(URL_, { redirect: 'follow' })
    assert.deepEqual(world.calls.map(({ init }) => init.redirect), ['manual', 'follow'])
  })

  test('a_redirect_as_a_browser_shows_it_is_refused', async () => {
    const opaque = { status: 0, headers: new Headers(), arrayBuffer: async () => new ArrayBuffer(0), type: 'opaqueredirect' }
    const world = browser([() => opaque])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    const error = await rejected(intent.fetch(URL_), 'Refused', 0)
    assert.equal(error.response, opaque)
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, intent.key)
  })
})

describe('abort', () => {
  test('an_aborted_signal_sends_nothing', async () => {
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await assert.rejects(intent.fetch(URL_, { signal: AbortSignal.abort() }), { name: 'AbortError' })
    assert.equal(world.calls.length, 0)
  })

  test('abort_during_a_try_stops_waiting_and_keeps_the_intent', async () => {
    const controller = new AbortController()
    const world = browser([({ signal }) => new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
      controller.abort()
    }), reply(201, MARK)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    await assert.rejects(intent.fetch(URL_, { signal: controller.signal }), { name: 'AbortError' })
    assert.equal(world.calls.length, 1)
    const again = await (await world.page()).begin('o', PAYLOAD)
    assert.equal((await again.fetch(URL_)).status, 201)
    assert.equal(world.keys().size, 1)
  })

  test('abort_during_the_last_try_is_an_abort_and_not_undecided', async () => {
    const controller = new AbortController()
    const world = browser([() => { controller.abort(); return reset() }])
    const intent = await (await world.page({ attempts: 1 })).begin('o', PAYLOAD)
    await assert.rejects(intent.fetch(URL_, { signal: controller.signal }), { name: 'AbortError' })
    assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, intent.key)
  })

  for (const reason of ['', 0, false]) {
    test(`abort_with_${JSON.stringify(reason)}_is_an_abort_and_never_an_answer`, async () => {
      const controller = new AbortController()
      const world = browser([async () => { controller.abort(reason); throw reason }])
      const intent = await (await world.page()).begin('o', PAYLOAD)
      const left = intent.fetch(URL_, { signal: controller.signal })
      assert.equal(await left.then(() => assert.fail('an answer'), (thrown) => thrown), reason)
      assert.equal((await (await world.page()).begin('o', PAYLOAD)).key, intent.key)
    })
  }

  test('abort_during_a_wait_ends_the_wait', async () => {
    const controller = new AbortController()
    // The real sleep: it would last for minutes.
    const checkout = (await newPage()).intents({
      user: 'ann', storage: null, base: 100_000, cap: 100_000, random: () => 1,
      fetch: async () => { setImmediate(() => controller.abort(new Error('left'))); return reset() },
    })
    const real = globalThis.setTimeout
    globalThis.setTimeout = (work, ms) => real(work, ms).unref()
    try {
      const intent = await checkout.begin('o', PAYLOAD)
      await assert.rejects(intent.fetch(URL_, { signal: controller.signal }), /left/)
    } finally {
      globalThis.setTimeout = real
    }
  })

  for (const [what, fetch] of [
    ['a_fetch_that_waits_for_a_new_token', () => new Promise(() => {})],
    ['a_body_that_does_not_end', async () => Object.assign(new Response(), { arrayBuffer: () => new Promise(() => {}) })],
  ]) {
    test(`${what}_ends_with_the_timeout_and_with_an_abort`, { timeout: 5000 }, async () => {
      const checkout = (await newPage()).intents({ user: 'ann', storage: null, fetch, timeout: 50, attempts: 2, base: 1 })
      const intent = await checkout.begin('o', PAYLOAD)
      // The test waits, and nothing else keeps the process alive.
      const alive = setTimeout(() => {}, 5000)
      const { cause } = await rejected(intent.fetch(URL_), 'Undecided', 'attempts')
      assert.equal(cause.name, 'TimeoutError')
      const controller = new AbortController(), left = intent.fetch(URL_, { signal: controller.signal })
      setImmediate(() => controller.abort(new Error('left')))
      await assert.rejects(left, /left/)
      clearTimeout(alive)
    })
  }

  test('a_fetch_that_throws_leaves_no_rejection_behind', { timeout: 5000 }, async () => {
    const rejections = [], note = (reason) => rejections.push(reason)
    process.on('unhandledRejection', note)
    const checkout = (await newPage()).intents({ user: 'ann', storage: null, timeout: 20, fetch: () => { throw new TypeError('no such address') } })
    await assert.rejects((await checkout.begin('o', PAYLOAD)).fetch(URL_), /no such address/)
    await new Promise((resolve) => setTimeout(resolve, 60))
    process.off('unhandledRejection', note)
    assert.deepEqual(rejections, [])
  })

  test('a_signal_that_lives_for_long_keeps_nothing_of_the_calls_that_have_ended', async () => {
    const { signal } = new AbortController()
    const { intents } = await newPage()
    for (const last of [reply(201), reply(402), reply(401), reset]) {
      let tries = 0
      const checkout = intents({
        user: 'ann', storage: null, base: 1, attempts: 3, fetch: async () => (++tries < 3 ? reset() : last.call ? last() : last.clone()),
      })
      const intent = await checkout.begin('o', PAYLOAD)
      await intent.fetch(URL_, { signal, body: 'x' }).catch(({ name }) => assert.equal(name, 'Undecided'))
      await intent.done()
    }
    assert.equal(getEventListeners(signal, 'abort').length, 0)
    // Node 20 never forgets the signals that `AbortSignal.any` made of one.
    const kept = Object.getOwnPropertySymbols(signal).filter((symbol) => /dependant/i.test(symbol.description))
    for (const symbol of kept) assert.equal(signal[symbol]?.size ?? 0, 0)
  })

  test('abort_after_an_answer_that_is_retried_does_not_wait', async () => {
    const controller = new AbortController()
    const world = browser([reply(503)])
    const intent = await (await world.page({ now: () => {
      if (world.calls.length) controller.abort(new Error('left'))
      return world.clock
    } })).begin('o', PAYLOAD)
    await assert.rejects(intent.fetch(URL_, { signal: controller.signal }), /left/)
    assert.deepEqual([world.calls.length, world.waits.length], [1, 0])
  })

  test('abort_ends_the_waiting_for_a_storage_that_hangs', { timeout: 5000 }, async () => {
    const controller = new AbortController()
    const world = browser([reply(201)])
    const intent = await (await world.page()).begin('o', PAYLOAD)
    world.storage.getItem = () => new Promise(() => setImmediate(() => controller.abort(new Error('left'))))
    await assert.rejects(intent.fetch(URL_, { signal: controller.signal }), /left/)
    assert.equal(world.calls.length, 0)
  })

  test('abort_during_a_wait_leaves_no_timer', async () => {
    // Else Node would not end before the wait is over.
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', `
      const { intents } = await import('${new URL('../index.js', import.meta.url)}')
      const controller = new AbortController()
      const fetch = async () => { setTimeout(() => controller.abort(new Error('left')), 20); throw new TypeError('reset') }
      const checkout = intents({ user: 'ann', storage: null, base: 60_000, cap: 60_000, random: () => 1, fetch })
      const intent = await checkout.begin('o', 1)
      console.log((await intent.fetch('${URL_}', { signal: controller.signal }).catch((error) => error)).message)
    `], { timeout: 20_000 })
    assert.equal(stdout.trim(), 'left')
  })

  test('the_real_sleep_sleeps', async () => {
    let tries = 0
    const checkout = (await newPage()).intents({
      user: 'ann', storage: null, base: 1, random: () => 1, fetch: async () => (++tries < 3 ? reset() : reply(201)),
    })
    assert.equal((await (await checkout.begin('o', PAYLOAD)).fetch(URL_)).status, 201)
  })
})

describe('bad input', () => {
  test('a_key_that_is_too_long_or_not_visible_is_an_error_before_anything_is_stored', async () => {
    for (const key of ['', 'k'.repeat(256), 'a b', 'a"b', 'a\\b', 'a,b', 'a;b', 'ä', 'a\nb']) {
      const world = browser()
      await assert.rejects((await world.page({ newKey: () => key })).begin('o', PAYLOAD), TypeError)
      assert.equal(world.storage.length, 0)
    }
    const checkout = await browser().page({ newKey: () => 'k'.repeat(255) })
    assert.equal((await checkout.begin('o', PAYLOAD)).key.length, 255)
  })

  test('a_user_is_required', async () => {
    const { intents } = await newPage()
    for (const user of [undefined, null, '', ' ', 7, {}, []]) assert.throws(() => intents({ user }), /user/)
  })

  test('a_payload_that_json_cannot_show_is_an_error', async () => {
    const checkout = await browser().page()
    for (const payload of [new FormData(), new Map([[1, 2]]), new Set(), new Blob(['x']), {}, Promise.resolve()]) {
      await assert.rejects(checkout.begin('o', payload), /payload/)
    }
    await assert.rejects(checkout.begin('o', { amount: 1n }), TypeError)
    const circle = {}
    circle.circle = circle
    await assert.rejects(checkout.begin('o', circle), TypeError)
  })

  test('without_crypto_subtle_it_says_so', async () => {
    const checkout = await browser().page()
    const real = Object.getOwnPropertyDescriptor(globalThis, 'crypto')
    Object.defineProperty(globalThis, 'crypto', { configurable: true, value: { getRandomValues() {}, randomUUID: () => 'k' } })
    try {
      await assert.rejects(checkout.begin('o', PAYLOAD), /HTTPS/)
    } finally {
      Object.defineProperty(globalThis, 'crypto', real)
    }
  })

  test('limits_that_are_no_numbers_end_early_and_never_loop', async () => {
    for (const limits of [{ attempts: NaN, budget: NaN }, { budget: 'x' }, { lifetime: NaN }, { margin: NaN }]) {
      const world = browser([reset])
      await assert.rejects(async () => (await (await world.page(limits)).begin('o', PAYLOAD)).fetch(URL_), { name: 'Undecided' })
      assert.ok(world.calls.length <= 1)
    }
  })

  test('a_limit_that_is_undefined_is_the_default', async () => {
    const limits = Object.fromEntries(Object.keys(defaults).map((name) => [name, undefined]))
    const world = browser([reply(503, { 'retry-after': '10' })])
    await rejected((await (await world.page(limits)).begin('o', PAYLOAD)).fetch(URL_), 'Undecided', 'attempts')
    assert.equal(world.calls.length, defaults.attempts)
    for (const wait of world.waits) assert.ok(wait >= 10_000, `waits ${wait} ms`)
  })

  test('endless_attempts_and_an_endless_budget_end_with_the_life_of_the_key', async () => {
    const world = browser([reset])
    const intent = await (await world.page({ attempts: Infinity, budget: Infinity })).begin('o', PAYLOAD)
    world.onWait = () => { world.clock += 600_000 }
    await rejected(intent.fetch(URL_), 'Undecided', 'lifetime')
    assert.equal(world.calls.length, 144) // 86,100 s in steps of 600 s
  })

  test('a_rejection_without_a_reason_is_a_failure', async () => {
    const world = browser([() => Promise.reject()])
    await rejected((await (await world.page()).begin('o', PAYLOAD)).fetch(URL_), 'Undecided', 'attempts')
  })

  test('errors_carry_the_intent_the_answer_and_the_cause', async () => {
    const world = browser([reset])
    const intent = await (await world.page({ attempts: 1 })).begin('o', PAYLOAD)
    const error = await rejected(intent.fetch(URL_), 'Undecided', 'attempts')
    assert.ok(error instanceof Error)
    assert.equal(error.intent, intent)
    assert.match(error.cause.message, /fetch failed/)
    assert.equal(error.response, undefined)
  })
})

test('a_try_ends_in_time_although_memory_is_collected', async () => {
  // On Node 20 a timer signal that only `AbortSignal.any` knows is collected, and never fires.
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--input-type=module', '--eval', `
    import { createServer } from 'node:http'
    const { intents } = await import('${new URL('../index.js', import.meta.url)}')
    const server = createServer(() => {})
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const collecting = setInterval(gc, 10)
    const intent = await intents({ user: 'ann', timeout: 200, attempts: 2, base: 1 }).begin('o', 1)
    const error = await intent.fetch('http://127.0.0.1:' + server.address().port, { body: 'x' }).catch((error) => error)
    console.log(error.name, error.reason, error.cause.name)
    clearInterval(collecting)
    server.closeAllConnections()
    server.close()
  `])
  assert.equal(stdout.trim(), 'Undecided attempts TimeoutError')
})
