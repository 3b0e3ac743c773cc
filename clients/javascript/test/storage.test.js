// What storages do at bad moments, and which one is the default.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asIndexedDB, FakeLocks, FakeStorage, newPage, SlowStorage } from './support.js'

const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'

const page = async (options) => (await newPage()).intents({
  user: 'ann', storage: new FakeStorage(), locks: new FakeLocks(), sleep: async () => {}, ...options,
})

for (const [kind, Storage] of [['web storage', FakeStorage], ['a storage with promises', SlowStorage]]) {
  test(`an_intent_that_is_done_meanwhile_is_not_listed_as_damaged (${kind})`, async () => {
    const storage = new Storage(), checkout = await page({ storage, locks: null })
    const intents = []
    for (let i = 0; i < 8; i++) intents.push(await checkout.begin(`order-${i}`, PAYLOAD))
    const done = Promise.all(intents.map((intent) => intent.done()))
    const listed = await checkout.unfinished()
    await done
    for (const found of listed) {
      assert.notEqual(found.key, undefined, `${found.name} is done, and is listed with the key ${found.key}: "undefined only if the stored record is damaged"`)
    }
  })
}

test('a_tab_that_was_duplicated_does_not_take_a_401_for_nothing_has_happened', async () => {
  // `sessionStorage` is Web Storage, and "Duplicate tab" copies it.
  const locks = new FakeLocks(), original = new FakeStorage(), copy = new FakeStorage(), charges = new Set()
  const pay = async (url, { headers }) => { charges.add(headers.get('idempotency-key')); return new Response('paid', { status: 201 }) }
  const gate = async () => new Response('sign in', { status: 401 })
  const one = await page({ storage: original, locks, fetch: gate })
  const intent = await one.begin('o', PAYLOAD)
  for (const [item, value] of original.items) copy.items.set(item, value)
  const two = await page({ storage: copy, locks, fetch: pay })
  await (await two.begin('o', PAYLOAD)).fetch(URL_)
  await intent.fetch(URL_).catch(() => {})
  // Signed in, the customer clicks again in the first tab.
  const again = await page({ storage: original, locks, fetch: pay })
  await (await again.begin('o', PAYLOAD)).fetch(URL_)
  assert.equal(charges.size, 1, `charged under ${charges.size} keys`)
})

test('the_answer_that_has_arrived_is_handed_over_although_the_storage_hangs', { timeout: 5000 }, async () => {
  let hangs = false
  class Hanging extends FakeStorage {
    getItem(item) { return hangs ? new Promise(() => {}) : super.getItem(item) }
  }
  const stop = new AbortController()
  const fetch = async () => { hangs = true; return new Response('paid', { status: 201 }) }
  const intent = await (await page({ storage: new Hanging(), fetch })).begin('o', PAYLOAD)
  const paid = intent.fetch(URL_, { signal: stop.signal }).then(({ status }) => status, (error) => error.name)
  setTimeout(() => stop.abort(), 100)
  const ended = await Promise.race([paid, new Promise((resolve) => setTimeout(resolve, 1000, 'still waiting'))])
  assert.equal(ended, 201)
})

test('an_intent_that_is_done_in_another_tab_while_it_is_listed_is_not_damaged', async () => {
  const storage = new SlowStorage(), locks = new FakeLocks()
  const one = await page({ storage, locks }), two = await page({ storage, locks })
  const intent = await one.begin('o', PAYLOAD)
  const listing = two.unfinished()
  await intent.done()
  const listed = await listing
  for (const found of listed) assert.equal(found.key, intent.key, `an intent whose key is ${found.key}`)
})

test('a_storage_whose_first_read_fails_after_a_reload_makes_no_new_key', async () => {
  // The database is there, and so is the key: only this read fails (a disk error, a database that is locked).
  const storage = new FakeStorage(), charges = new Set()
  const pay = async (url, { headers }) => { charges.add(headers.get('idempotency-key')); throw new TypeError('the answer is lost') }
  const tab = async () => (await newPage()).intents({ user: 'ann', locks: new FakeLocks(), fetch: pay, attempts: 1 })
  await asIndexedDB(storage, async () => {
    await assert.rejects((await (await tab()).begin('o', PAYLOAD)).fetch(URL_), { reason: 'attempts' })
    let reads = 0
    storage.fault = (method) => { if (method == 'getItem' && ++reads == 1) throw new DOMException('disk I/O error', 'UnknownError') }
    const checkout = await tab()
    await assert.rejects(checkout.begin('o', PAYLOAD), { name: 'UnknownError' })
    await assert.rejects((await checkout.begin('o', PAYLOAD)).fetch(URL_), { reason: 'attempts' })
    assert.equal(charges.size, 1)
  })
})

test('abort_ends_the_waiting_for_a_storage_that_hangs_after_an_answer', { timeout: 5000 }, async () => {
  let hangs = false
  class Hanging extends FakeStorage {
    getItem(item) { return hangs ? new Promise(() => {}) : super.getItem(item) }
  }
  const stop = new AbortController()
  const fetch = async () => {
    hangs = true
    setImmediate(() => stop.abort(new Error('left')))
    return new Response('declined', { status: 402 })
  }
  const intent = await (await page({ storage: new Hanging(), fetch })).begin('o', PAYLOAD)
  await assert.rejects(intent.fetch(URL_, { signal: stop.signal }), /left/)
})

test('no_intent_is_missing_in_a_list_because_another_list_is_made_meanwhile', async () => {
  const storage = new FakeStorage(), names = Array.from({ length: 8 }, (_, i) => `order-${i + 1}`)
  await asIndexedDB(storage, async () => {
    const checkout = (await newPage()).intents({ user: 'ann', locks: null })
    for (const name of names) await checkout.begin(name, PAYLOAD)
    const listing = checkout.unfinished()
    const other = checkout.begin('order-0', PAYLOAD).then(() => checkout.unfinished())
    assert.deepEqual((await listing).map(({ name }) => name).sort(), names)
    assert.deepEqual((await other).map(({ name }) => name).sort(), ['order-0', ...names])
  })
})

test('no_intent_is_missing_in_a_list_because_another_one_gets_its_place', async () => {
  // As storages do, in an order of their own.
  class Sorted extends SlowStorage {
    key(index) { return [...this.items.keys()].sort()[index] ?? null }
  }
  const names = ['order-1', 'order-2', 'order-3'], storage = new Sorted(), checkout = await page({ storage })
  for (const name of names) await checkout.begin(name, PAYLOAD)
  const { getItem } = storage
  // Another tab begins one after the first look.
  storage.getItem = async (item) => {
    const value = await getItem.call(storage, item)
    storage.items.set('another item', '')
    return value
  }
  assert.deepEqual((await checkout.unfinished()).map(({ name }) => name).sort(), names)
})

test('a_storage_may_have_an_item_with_any_name', async () => {
  // They are properties of `localStorage`.
  const storage = Object.assign(new FakeStorage(), { names: 'text', database: 'text' }), checkout = await page({ storage })
  await checkout.begin('order-1', PAYLOAD)
  assert.deepEqual((await checkout.unfinished()).map(({ name }) => name), ['order-1'])
})

test('indexed_db_is_the_default', async () => {
  const storage = new FakeStorage()
  await asIndexedDB(storage, async () => {
    const tab = async () => (await newPage()).intents({ user: 'ann', locks: null })
    const before = await (await tab()).begin('o', PAYLOAD)
    assert.equal(before.persisted, true)
    assert.equal((await (await tab()).begin('o', PAYLOAD)).key, before.key)
    const [found, ...more] = await (await tab()).unfinished()
    assert.deepEqual([found.key, more.length], [before.key, 0])
    await found.done()
    assert.equal(storage.length, 0)
  })
})

test('a_page_keeps_no_connection_to_the_database', async () => {
  const storage = new FakeStorage()
  await asIndexedDB(storage, async ({ countOpen }) => {
    const checkout = (await newPage()).intents({ user: 'ann', locks: null })
    const calls = [() => checkout.begin('o', PAYLOAD), () => checkout.unfinished(), async () => (await checkout.begin('o', PAYLOAD)).done()]
    for (const call of calls) {
      await call()
      assert.equal(countOpen(), 0)
    }
    storage.fault = () => { throw new DOMException('full', 'QuotaExceededError') }
    await assert.rejects(checkout.begin('o', PAYLOAD), { name: 'QuotaExceededError' })
    assert.equal(countOpen(), 0)
  })
})

test('a_page_that_may_store_nothing_remembers', async () => {
  const storage = new FakeStorage(() => { throw new DOMException('denied', 'UnknownError') })
  const real = Object.getOwnPropertyDescriptor(globalThis, 'localStorage')
  const get = () => { throw new DOMException('denied', 'SecurityError') }
  Object.defineProperty(globalThis, 'localStorage', { configurable: true, get })
  try {
    await asIndexedDB(storage, async () => {
      const { intents } = await newPage()
      const one = intents({ user: 'ann' }), two = intents({ user: 'ann' })
      const intent = await one.begin('o', PAYLOAD)
      assert.equal(intent.persisted, false)
      assert.equal((await two.begin('o', PAYLOAD)).key, intent.key)
      assert.equal((await two.unfinished()).length, 1)
      await intent.done()
      assert.deepEqual(await one.unfinished(), [])
    })
  } finally {
    delete globalThis.localStorage
    if (real) Object.defineProperty(globalThis, 'localStorage', real)
  }
})

test('node_remembers_in_its_process', async () => {
  const { intents } = await newPage()
  const intent = await intents({ user: 'ann' }).begin('o', PAYLOAD)
  assert.equal(intent.persisted, false)
  assert.equal((await intents({ user: 'ann' }).begin('o', PAYLOAD)).key, intent.key)
})
