import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { charges, openTab, paid, pay, ready, settled, startBrowser, startExample, tries, visit } from './support.js'

let example, browser

before(async () => {
  [example, browser] = await Promise.all([startExample(), startBrowser()])
})
after(async () => {
  await browser?.close()
  example?.stop()
})

/** A test with a visitor. No test may meet an error in the console, or a request to another host. */
const scenario = (name, options, run) => test(name, async () => {
  // A crash is everybody's: it has a server of its own.
  const own = options.fault == 'crash' && await startExample()
  const visitor = await visit(browser, (own || example).url, options)
  try {
    await run(visitor.page, visitor)
    assert.deepEqual(visitor.problems, [])
  } finally {
    await visitor.context.close()
    own?.stop?.()
  }
})

/** The bank has charged so often, and the page says so. */
async function assertCharges(page, count) {
  await settled(page)
  await page.waitForFunction((count) => document.getElementById('count').textContent == count, count)
  assert.equal(await charges(page), count)
}

const keysOf = (all) => new Set(all.map(({ key }) => key))

describe('with the library, exactly one charge', { concurrency: 3 }, () => {
  scenario('nothing goes wrong', {}, async (page) => {
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.deepEqual(all.map(({ status, replayed }) => [status, replayed]), [['201 Created', false]])
    await assertCharges(page, 1)
  })

  scenario('the answer is lost, twice', { fault: 'lose-answer' }, async (page) => {
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.deepEqual(all.map(({ status, replayed }) => [status, replayed]), [
      ['no answer', false], ['no answer', false], ['201 Created', true],
    ])
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('the answer comes late', { fault: 'answer-late' }, async (page) => {
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.equal(all[0].status, 'no answer in time')
    assert.ok(all.at(-1).replayed)
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('the request is refused, then the server is busy', { fault: 'refuse' }, async (page) => {
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.deepEqual(all.slice(0, 2).map(({ status }) => status), ['no answer', '503 Service Unavailable'])
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('the server crashes after the charge', { fault: 'crash' }, async (page) => {
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.equal(all[0].status, 'no answer')
    assert.ok(all.at(-1).replayed)
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('two clicks at once', { fault: 'twice' }, async (page) => {
    await pay(page)
    await paid(page)
    await settled(page)
    const all = await tries(page)
    assert.ok(all.length >= 2 && all.some(({ replayed }) => replayed))
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('a double click', {}, async (page) => {
    await page.getByRole('button', { name: /^Pay/ }).dblclick()
    await paid(page)
    await settled(page)
    assert.equal(keysOf(await tries(page)).size, 1)
    await assertCharges(page, 1)
  })

  scenario('the page is reloaded in the middle', { fault: 'reload' }, async (page) => {
    const reloaded = page.waitForEvent('load')
    await pay(page)
    await reloaded
    await paid(page)
    const all = await tries(page)
    assert.equal(all[0].status, 'the page was left')
    assert.ok(all.at(-1).replayed)
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('a second tab pays at the same time', {}, async (page, visitor) => {
    const second = await openTab(visitor, example.url)
    await second.locator('input[value="none"]').check()
    await Promise.all([pay(page), pay(second)])
    await Promise.all([paid(page), paid(second)])
    assert.equal(keysOf([...await tries(page), ...await tries(second)]).size, 1)
    await assertCharges(page, 1)
  })

  scenario('a tab that is opened later shows the same receipt', {}, async (page, visitor) => {
    await pay(page)
    await paid(page)
    const second = await openTab(visitor, example.url)
    await paid(second)
    assert.ok((await tries(second)).at(-1).replayed)
    await assertCharges(second, 1)
  })

  scenario('back from the receipt, and pay again', {}, async (page) => {
    await pay(page)
    await paid(page)
    await page.goBack()
    await pay(page)
    await paid(page)
    const all = await tries(page)
    assert.deepEqual(all.map(({ replayed }) => replayed), [false, true])
    assert.equal(keysOf(all).size, 1)
    await assertCharges(page, 1)
  })

  scenario('back and forward while the payment is running', { fault: 'answer-late' }, async (page) => {
    await pay(page)
    await page.waitForSelector('.try')
    await page.goBack()
    await page.goForward()
    await ready(page)
    await paid(page)
    assert.equal(keysOf(await tries(page)).size, 1)
    await assertCharges(page, 1)
  })

  scenario('another quantity is a question, and a new order another payment', {}, async (page) => {
    await pay(page)
    await paid(page)
    await page.goBack()
    await page.getByLabel('Quantity').fill('2')
    await pay(page)
    await page.getByText('A payment for this order is open').waitFor()
    await assertCharges(page, 1)

    await page.getByRole('button', { name: 'New order' }).click()
    await assertCharges(page, 0)
    await pay(page)
    await paid(page)
    await assertCharges(page, 1)
  })
})

describe('without the library, more than one', { concurrency: 3 }, () => {
  for (const [fault, expected] of [['lose-answer', 3], ['answer-late', 2], ['crash', 2], ['twice', 2]]) {
    scenario(fault, { fault, naive: true }, async (page) => {
      await pay(page)
      await paid(page)
      await settled(page)
      const all = await tries(page)
      assert.equal(keysOf(all).size, all.length)
      const made = await charges(page)
      assert.ok(made >= expected, `${made} charges`)
      await page.getByText(/has charged \d times$/).waitFor()
    })
  }

  scenario('the page is reloaded, and the customer pays again', { fault: 'reload', naive: true }, async (page) => {
    const reloaded = page.waitForEvent('load')
    await pay(page)
    await reloaded
    await page.getByText('The customer pays again').waitFor()
    await page.locator('input[value="none"]').check()
    await pay(page)
    await paid(page)
    await assertCharges(page, 2)
  })
})

describe('for everybody', () => {
  scenario('it can be done with the keyboard alone', { fault: 'lose-answer' }, async (page) => {
    await page.getByRole('button', { name: /^Pay/ }).focus()
    await page.keyboard.press('Enter')
    await paid(page)
    // The focus goes where the news is, and on from there.
    assert.equal(await page.evaluate(() => document.activeElement.id), 'receipt-title')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: /^Pay/ }).waitFor()
    assert.equal(await page.evaluate(() => document.activeElement.id), 'pay')
    await assertCharges(page, 0)
  })

  scenario('it fits a phone', { fault: 'lose-answer', viewport: { width: 360, height: 740 } }, async (page) => {
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)
    assert.ok(await fits())
    await pay(page)
    await paid(page)
    assert.ok(await fits())
  })

  scenario('every control has a name, and news is announced', {}, async (page) => {
    const nameless = await page.evaluate(() => [...document.querySelectorAll('input, select, button')]
      .filter((control) => !(control.labels?.length || control.textContent.trim())).map(({ id }) => id))
    assert.deepEqual(nameless, [])
    await pay(page)
    await page.getByRole('status').filter({ hasText: 'Paid.' }).waitFor()
  })
})
