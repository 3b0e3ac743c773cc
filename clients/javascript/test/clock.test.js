// The age of a key is counted by a clock that can be set. The greatest reading is kept with the intent.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeLocks, FakeStorage, newPage } from './support.js'

const MINUTE = 60_000, HOUR = 60 * MINUTE
const NOON = 1_767_268_800_000
const PAYLOAD = { order: 'order-1', amount: 10 }
const URL_ = 'https://example.com/payments'
const UNKNOWN_AGE = { name: 'Undecided', reason: 'lifetime' }

/** A browser whose clock can be set, and a network that loses every answer. */
const browser = () => {
  const world = { storage: new FakeStorage(), clock: NOON, calls: 0 }
  const locks = new FakeLocks()
  const fetch = async () => {
    world.calls++
    world.during?.()
    throw new TypeError('fetch failed')
  }
  world.page = async () => (await newPage()).intents({
    user: 'ann', storage: world.storage, locks, now: () => world.clock, fetch, attempts: 1, sleep: async () => {},
  })
  world.begin = async () => (await world.page()).begin('o', PAYLOAD)
  world.send = async () => {
    await assert.rejects((await world.begin()).fetch(URL_), { reason: 'attempts' })
    return world.calls
  }
  /** Whatever the clock says from now on. */
  world.refuses = async () => {
    const { calls } = world
    for (const clock of [world.clock, world.clock + HOUR, NOON, NOON + 23 * HOUR, NOON + 25 * HOUR]) {
      world.clock = clock
      await assert.rejects(world.begin(), UNKNOWN_AGE)
      await assert.rejects((await (await world.page()).unfinished())[0].fetch(URL_), UNKNOWN_AGE)
    }
    assert.equal(world.calls, calls)
  }
  /** The stored record as an earlier version of this package has left it. */
  world.toEarlierVersion = () => {
    const [[item, json]] = world.storage.items
    const { latest, ...record } = JSON.parse(json)
    world.storage.items.set(item, JSON.stringify(record))
  }
  return world
}

for (const version of ['this_version', 'an_earlier_version']) {
  test(`clock_that_was_set_back_is_not_believed_later_for_a_record_of_${version}`, async () => {
    // Two hours fast when the key was made, then set right. 25 hours later the server has forgotten the key.
    const world = browser()
    world.clock = NOON + 2 * HOUR
    await world.send()
    if (version === 'an_earlier_version') world.toEarlierVersion()
    world.clock = NOON
    await assert.rejects(world.begin(), UNKNOWN_AGE)
    world.clock = NOON + 25 * HOUR
    await world.refuses()
  })
}

test('step_that_is_noticed_by_a_try_is_not_forgotten_either', async () => {
  const world = browser(), intent = await world.begin()
  world.clock = NOON - 6 * MINUTE
  await assert.rejects(intent.fetch(URL_), UNKNOWN_AGE)
  world.clock = NOON
  await world.refuses()
})

test('clock_that_is_set_back_to_after_the_making_of_the_key_is_noticed_by_the_reading_of_a_try', async () => {
  const world = browser()
  await world.begin()
  world.clock = NOON + 20 * HOUR
  await world.send()
  world.clock = NOON + 17 * HOUR
  await world.refuses()
})

test('key_that_was_too_old_is_not_young_again_when_the_clock_is_set_back', async () => {
  const world = browser()
  await world.send()
  world.clock = NOON + 23 * HOUR + 58 * MINUTE
  await assert.rejects(world.begin(), UNKNOWN_AGE)
  world.clock -= 4 * MINUTE
  await world.refuses()
})

test('age_is_counted_from_the_greatest_reading_and_small_corrections_do_not_make_it_unknown', async () => {
  const world = browser()
  await world.send()
  for (const minutes of [-5, 0, 60, 55, 23 * 60 + 54, 23 * 60 + 50]) {
    world.clock = NOON + minutes * MINUTE
    const calls = world.calls
    assert.equal(await world.send(), calls + 1)
  }
})

test('step_that_cannot_be_stored_is_the_error_of_the_storage', async () => {
  const world = browser(), intent = await world.begin()
  world.storage.fault = (method) => { if (method === 'setItem') throw new DOMException('gone', 'UnknownError') }
  world.clock = NOON - HOUR
  await assert.rejects(world.begin(), { name: 'UnknownError' })
  await assert.rejects(intent.fetch(URL_), { name: 'UnknownError' })
  assert.equal(world.calls, 0)
})

test('when_the_key_was_made_is_still_shown_and_done_makes_room_for_another', async () => {
  const world = browser(), { key } = await world.begin()
  world.clock = NOON - HOUR
  const error = await world.begin().catch((error) => error)
  assert.deepEqual([error.intent.key, error.intent.created], [key, NOON])
  const [found] = await (await world.page()).unfinished()
  assert.deepEqual([found.key, found.created], [key, NOON])
  await found.done()
  assert.notEqual((await world.begin()).key, key)
})

test('clock_that_is_set_back_during_a_try_is_not_believed_after_it', async () => {
  const world = browser()
  world.during = () => { world.clock -= 3 * HOUR }
  await world.send()
  world.during = undefined
  // 25 hours after the making of the key, by a clock that is three hours slow.
  world.clock = NOON + 22 * HOUR
  await world.refuses()
})

test('reading_after_a_try_is_not_forgotten', async () => {
  // The laptop sleeps during the try, and wakes 20 hours later. Then its clock is set back by 18 hours.
  const world = browser()
  world.during = () => { world.clock = NOON + 20 * HOUR }
  await world.send()
  world.during = undefined
  world.clock = NOON + 7 * HOUR
  await world.refuses()
})

test('reading_by_begin_is_not_forgotten', async () => {
  const world = browser()
  await world.send()
  world.clock = NOON + 20 * HOUR
  await world.begin()
  world.clock = NOON + 7 * HOUR
  await world.refuses()
})
