// The page in Chromium, which is reloaded while it pays.

import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'

const { values: options } = parseArgs({
  options: Object.fromEntries(['client', 'url', 'intents', 'concurrency', 'journal', 'life'].map((name) => [name, { type: 'string' }])),
})

const QUIET = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync']

/** At a reload some payments are under way, some wait for their next try, and some are not begun. */
const RELOADS = 8

const intents = +options.intents
const browser = await chromium.launch({ executablePath: process.env.SUITE_CHROMIUM, args: QUIET })
const page = await browser.newPage()
const problems = []
page.on('pageerror', (error) => problems.push(`${error}`))

/** The server may be dead at this moment. */
async function open(how) {
  for (;;) {
    try {
      await how()
      await page.waitForSelector('html[data-answered]', { state: 'attached', timeout: 5000 })
      return
    } catch {
      await sleep(100)
    }
  }
}

const url = new URL(`?intents=${intents}`, options.url).href
await open(() => page.goto(url))
for (let reload = 1; reload <= RELOADS; reload++) {
  const enough = Math.floor(intents * reload / (RELOADS + 1))
  await page.waitForFunction((enough) => +document.documentElement.dataset.answered >= enough, enough, { timeout: 120_000 })
  await open(() => page.reload())
}
await page.waitForSelector('html[data-done]', { state: 'attached', timeout: 240_000 })

const items = await page.evaluate(() => Object.entries(localStorage))
for (const [item, value] of items) {
  const [kind, name] = item.split(' ')
  if (kind == 'answered') appendFileSync(options.journal, `${JSON.stringify({ name, answered: JSON.parse(value) })}\n`)
  else problems.push(`${item} is still stored`)
}
await browser.close()
if (problems.length) {
  console.error(problems.join('\n'))
  process.exitCode = 1
}
