import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { crash, operate, pay, startAdmin } from './admin.support.js'
import { startBrowser } from './support.js'

// A name that is not localhost, and plain HTTP: a browser sends no `Sec-Fetch-Site` to it.
const NAME = 'pay.example.com'

let example, browser

before(async () => {
  [example, browser] = await Promise.all([startAdmin(), startBrowser(`--host-resolver-rules=MAP ${NAME} 127.0.0.1`)])
})
after(async () => {
  await browser?.close()
  example?.stop()
})

/** A test with an operator. No test may meet an error in the console, or a request to another host. */
const scenario = (name, options, run) => test(name, async () => {
  const url = options.host ? example.url.replace('127.0.0.1', options.host) : example.url
  const operator = await operate(browser, url, options)
  try {
    await run(operator.page, operator)
    assert.deepEqual(operator.problems, [])
  } finally {
    await operator.context.close()
  }
})

/** From the overview to the record with this label, by clicks. */
async function open(page, label) {
  await page.getByRole('link', { name: 'Abandoned', exact: true }).click()
  await page.getByLabel('Label').fill(label)
  await page.getByRole('button', { name: 'Filter' }).click()
  await page.getByRole('row').filter({ hasText: label }).getByRole('link').click()
  await page.getByRole('heading', { name: 'Resolve' }).waitFor()
}

const form = (page, title) => page.locator('form').filter({ has: page.getByRole('heading', { name: title }) })

async function answer(page, body) {
  const done = form(page, 'It was done')
  await done.getByLabel('Status').fill('201')
  await done.getByLabel('Content type').fill('application/json')
  await done.getByLabel('Body').fill(body)
  await done.getByLabel('Reason').fill('the statement of May 4 says: <b>paid</b>')
  await done.getByRole('button', { name: 'Send this answer' }).click()
}

// A crash is everybody's: one after the other.
describe('a crashed payment', () => {
  for (const host of [undefined, NAME]) {
    const key = host ? '4712' : '4711'
    scenario(`is resolved by clicks, and the client's retry gets that answer (${host ?? 'localhost'})`, { host }, async (page) => {
      await crash(example.url, key)
      await page.reload()
      await open(page, `order ${key}`)
      await page.getByText('charge the card').waitFor()
      await answer(page, '{"id":7,"amount":1000}')
      await page.getByRole('heading', { name: 'Resolved: this is the answer from now on' }).waitFor()
      await page.getByText('the statement of May 4 says: <b>paid</b>').waitFor()
      assert.deepEqual(await pay(example.url, { key }),
        { status: 201, replayed: 'true', type: 'application/json', text: '{"id":7,"amount":1000}' })
    })
  }

  scenario('that was not done runs again', {}, async (page) => {
    await crash(example.url, '4713')
    await open(page, 'order 4713')
    await page.getByText('Steps that were finished are forgotten').waitFor()
    const undone = form(page, 'It was not done')
    await undone.getByLabel('Reason').fill('the bank has never heard of it')
    await undone.getByRole('button', { name: 'Let it run again' }).click()
    await page.getByRole('heading', { name: 'Resolved: it may run again' }).waitFor()
    const { status, replayed } = await pay(example.url, { key: '4713', crash: false })
    assert.deepEqual([status, replayed], [201, null])
  })

  scenario('is resolved once, whichever operator decides', {}, async (page, { context }) => {
    await crash(example.url, '4714')
    await open(page, 'order 4714')
    const second = await context.newPage()
    await second.goto(page.url())
    await answer(page, 'first')
    await page.getByRole('heading', { name: /^Resolved/ }).waitFor()
    await answer(second, 'second')
    await second.getByRole('heading', { name: 'Not resolved: there is an answer already' }).waitFor()
    await second.getByRole('button', { name: 'Show body' }).click()
    await second.locator('pre').filter({ hasText: /^first$/ }).waitFor()
    assert.equal((await pay(example.url, { key: '4714' })).text, 'first')
  })

  scenario('is not resolved by the form of another site', {}, async (page, operator) => {
    await crash(example.url, '4715')
    await open(page, 'order 4715')
    const seen = await page.locator('input[name=seen]').first().inputValue()
    const fields = { decision: 'retry', seen, reason: 'evil' }
    const inputs = Object.entries(fields).map(([name, value]) => `<input name=${name} value=${value}>`).join('')
    const form = (action) => `<form method=post action="${action}">${inputs}<button>Win a prize</button></form>`
    const targets = [page.url(), page.url().replace('127.0.0.1', NAME)].map((url) => `${url}/resolve`)
    const site = createServer((_, answer) => {
      answer.setHeader('content-type', 'text/html')
      answer.end(targets.map(form).join(''))
    }).listen(0, '127.0.0.1')
    await once(site, 'listening')
    try {
      for (const host of ['127.0.0.1', 'localhost', NAME]) for (const at of targets.keys()) {
        await page.goto(`http://${host}:${site.address().port}/`)
        await page.getByRole('button').nth(at).click()
        await page.getByText('this request does not come from the admin page').waitFor()
      }
    } finally {
      site.close()
      site.closeAllConnections()
    }
    assert.match((await pay(example.url, { key: '4715' })).text, /outcome-unknown/)
    operator.problems = operator.problems.filter((problem) => !problem.startsWith('asked http'))
  })

  scenario('is found by its client\'s key', {}, async (page) => {
    await crash(example.url, '4717')
    await page.getByLabel('Operation').fill('POST /api/payments')
    await page.getByLabel("Client's key").fill('4717')
    await page.getByRole('button', { name: 'Find' }).click()
    await page.getByText('order 4717').waitFor()
    assert.match(page.url(), /\/records\/[0-9a-f]{64}$/)
  })

  scenario('is forgotten after a confirmation', {}, async (page) => {
    await crash(example.url, '4716')
    await open(page, 'order 4716')
    await page.getByText('Forget this record').click()
    const forget = page.locator('form').filter({ hasText: 'I know that' })
    await forget.getByLabel('Reason').fill('a test of ours')
    await forget.getByRole('button').click()
    // The browser insists on the box.
    assert.equal(await forget.getByRole('checkbox').evaluate((box) => box.validity.valueMissing), true)
    await forget.getByRole('checkbox').check()
    await forget.getByRole('button').click()
    await page.getByRole('heading', { name: 'Forgotten' }).waitFor()
    const { status } = await pay(example.url, { key: '4716', crash: false })
    assert.equal(status, 201)
  })
})

/** The pages of the example, with every disclosure open. */
async function* pages(page) {
  yield 'overview'
  for (const state of ['Abandoned', 'Completed']) {
    await page.getByRole('link', { name: state, exact: true }).click()
    yield `list of ${state}`
    await page.locator('tbody a').first().click()
    await page.evaluate(() => document.querySelectorAll('details').forEach((it) => { it.open = true }))
    yield `record, ${state}`
  }
  await page.getByRole('button', { name: 'Show body' }).click()
  yield 'revealed record'
}

/** The texts whose contrast with what is behind them is too low: WCAG 2.2, 1.4.3. */
const faint = (page) => page.evaluate(() => {
  const numbers = (color) => color.match(/[\d.]+/g).map(Number)
  const luminance = (color) => {
    const [r, g, b] = numbers(color).map((it) => it / 255).map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color
  }
  const texts = [...document.querySelectorAll('body *')].filter((it) => [...it.childNodes].some((node) => node.nodeType == 3 && node.data.trim()))
  return texts.filter((it) => it.checkVisibility()).flatMap((it) => {
    const style = getComputedStyle(it)
    const [a, b] = [luminance(it instanceof SVGElement ? style.fill : style.color), luminance(behind(it))]
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    return contrast < 4.5 ? [`${it.textContent.trim()}: ${contrast.toFixed(1)}`] : []
  })
})

describe('for everybody', () => {
  for (const colorScheme of ['light', 'dark']) {
    scenario(`texts can be read, ${colorScheme}`, { colorScheme }, async (page) => {
      for await (const name of pages(page)) assert.deepEqual(await faint(page), [], name)
    })
  }

  for (const width of [360, 1400]) {
    scenario(`pages fit ${width} px`, { viewport: { width, height: 740 } }, async (page) => {
      for await (const name of pages(page)) {
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), name)
      }
    })
  }

  scenario('every control has a name, and every page one heading', {}, async (page) => {
    for await (const name of pages(page)) {
      const nameless = await page.evaluate(() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')]
        .filter((control) => !(control.labels?.length || control.textContent.trim())).map((it) => it.outerHTML))
      assert.deepEqual(nameless, [], name)
      assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1, name)
    }
  })

  scenario('the keyboard alone is enough', {}, async (page) => {
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    assert.equal(await page.evaluate(() => document.activeElement.id), 'content')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Abandoned records' }).waitFor()
    await page.getByLabel('Older than').focus()
    await page.keyboard.type('soon')
    await page.keyboard.press('Enter')
    await page.getByRole('alert').waitFor()
  })

  test('it works without scripts, because there are none', async () => {
    const operator = await operate(browser, example.url, { javaScriptEnabled: false })
    await operator.page.getByRole('link', { name: 'All', exact: true }).click()
    await operator.page.getByRole('heading', { name: 'Records' }).waitFor()
    assert.equal(await operator.page.locator('script').count(), 0)
    await operator.context.close()
  })
})

test('ten thousand abandoned records are read page by page', async () => {
  const large = await startAdmin(10_000)
  const { page, context, problems } = await operate(browser, large.url)
  try {
    await page.getByRole('link', { name: /^10,000 abandoned/ }).click()
    const seen = new Set()
    for (let at = 0; at < 5; at++) {
      for (const link of await page.locator('tbody a').evaluateAll((all) => all.map((it) => it.href))) seen.add(link)
      await page.getByRole('link', { name: 'Next page' }).click()
      await page.waitForLoadState()
    }
    assert.equal(seen.size, 250)
    assert.deepEqual(problems, [])
  } finally {
    await context.close()
    large.stop()
  }
})
