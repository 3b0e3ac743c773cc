// Every try is counted where the intent is stored, and what cannot be counted is not sent: only so is a 4xx that is handed over
// the answer to the first try of all tabs.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { asIndexedDB, FakeLocks, FullStorage, newPage, turn } from './support.js'

const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'

/** A shop that has paid each key once, and tabs of one browser that pay there. */
const browser = () => {
  const storage = new FullStorage(), locks = new FakeLocks(), charges = []
  const pay = async (url, { headers }) => {
    charges.push(headers.get('idempotency-key'))
    return new Response('paid', { status: 201 })
  }
  /** `given`: the application has chosen the storage. Else it is the page's own. */
  const tab = async (given, fetch = pay) => (await newPage()).intents({
    user: 'ann', locks, fetch, attempts: 1, sleep: async () => {}, ...given && { storage },
  })
  return { storage, charges, tab, run: (given, work) => given ? work() : asIndexedDB(storage, work) }
}

for (const given of [true, false]) {
  describe(given ? 'a storage that was given' : "the page's own storage", () => {
    test('a_try_that_cannot_be_counted_is_not_sent', async () => {
      const { storage, charges, tab, run } = browser()
      await run(given, async () => {
        const checkout = await tab(given), intent = await checkout.begin('o', PAYLOAD)
        storage.isFull = storage.takesNothing = true
        for (let click = 0; click < 2; click++) await assert.rejects(intent.fetch(URL_), { name: 'QuotaExceededError' })
        assert.deepEqual(charges, [])
        assert.equal(intent.persisted, true)
        storage.isFull = false
        assert.equal((await checkout.begin('o', PAYLOAD)).key, intent.key)
        assert.equal((await intent.fetch(URL_)).status, 201)
      })
    })

    test('what_could_not_be_counted_does_not_count', async () => {
      const { storage, tab, run } = browser()
      await run(given, async () => {
        const checkout = await tab(given, async () => new Response('declined', { status: 402 }))
        const intent = await checkout.begin('o', PAYLOAD)
        storage.isFull = storage.takesNothing = true
        await assert.rejects(intent.fetch(URL_), { name: 'QuotaExceededError' })
        storage.isFull = false
        assert.equal((await intent.fetch(URL_)).status, 402)
      })
    })

    for (const when of ['before_the_first_try', 'during_the_first_try']) {
      test(`401_while_another_tab_pays_is_no_second_charge_although_the_storage_takes_no_writes_${when}`, async () => {
        const { storage, charges, tab, run } = browser()
        await run(given, async () => {
          let refuse
          const gate = () => new Promise((resolve) => { refuse = () => resolve(new Response('sign in', { status: 401 })) })
          const one = await tab(given, gate), two = await tab(given)
          const inOne = await one.begin('o', PAYLOAD), inTwo = await two.begin('o', PAYLOAD)
          assert.equal(inOne.key, inTwo.key)
          storage.takesNothing = true
          storage.isFull = when === 'before_the_first_try'
          const refused = inOne.fetch(URL_).catch((error) => error)
          for (let turns = 0; !refuse && turns < 20; turns++) await turn()
          storage.isFull = true
          await inTwo.fetch(URL_).catch((error) => assert.equal(error.name, 'QuotaExceededError'))
          refuse?.()
          await refused
          storage.isFull = false
          await (await (await tab(given)).begin('o', PAYLOAD)).fetch(URL_)
          assert.equal(charges.length, 1, `charged: ${charges}`)
        })
      })
    }

    test('a_full_storage_takes_every_try_of_an_intent_that_it_has', async () => {
      const { storage, tab, run } = browser()
      await run(given, async () => {
        let tries = 0
        const intent = await (await tab(given, async () => new Response('', { status: ++tries < 12 ? 503 : 201 }))).begin('o', PAYLOAD)
        storage.isFull = true
        for (let call = 1; call < 12; call++) await assert.rejects(intent.fetch(URL_), { reason: 'attempts' })
        assert.equal((await intent.fetch(URL_)).status, 201)
      })
    })

    test('a_new_intent_that_a_full_storage_does_not_take_is_an_error', async () => {
      // Kept in the page, it would have another key in another tab.
      const { storage, tab, run } = browser()
      await run(given, async () => {
        const checkout = await tab(given)
        storage.isFull = true
        await assert.rejects(checkout.begin('o', PAYLOAD), { name: 'QuotaExceededError' })
        storage.isFull = false
        assert.equal((await checkout.begin('o', PAYLOAD)).persisted, true)
      })
    })
  })
}
