// The page in Chromium, which is reloaded while it pays. The service has another origin, so Chromium asks it first.

import { once } from 'node:events'
import { appendFileSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'

const { values: options } = parseArgs({
  options: Object.fromEntries(['client', 'url', 'intents', 'concurrency', 'journal', 'life'].map((name) => [name, { type: 'string' }])),
})

const QUIET = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync']

/** At a reload some payments are under way, some wait for their next try, and some are not begun. */
const RELOADS = 4

/** The package as it is: what the page imports is what npm ships. */
const FILES = { '/': ['text/html', 'page.html'], '/index.js': ['text/javascript', '../../javascript/index.js'] }

const origin = createServer(({ url }, response) => {
  const [type, file] = FILES[new URL(url, 'http://127.0.0.1').pathname] ?? []
  if (!file) return response.writeHead(404).end()
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(readFileSync(new URL(file, import.meta.url)))
})
origin.listen(0, '127.0.0.1')
await once(origin, 'listening')

const intents = +options.intents
const browser = await chromium.launch({ executablePath: process.env.SUITE_CHROMIUM, args: QUIET })
const page = await browser.newPage()
const problems = []
page.on('pageerror', (error) => problems.push(`${error}`))

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

const query = new URLSearchParams({ intents, payments: options.url })
const url = `http://127.0.0.1:${origin.address().port}/?${query}`
await open(() => page.goto(url))
for (let reload = 1; reload <= RELOADS; reload++) {
  // All in the first half: in the second one, waits are seen to their end.
  const enough = Math.floor(intents * reload / (2 * RELOADS))
  await page.waitForFunction((enough) => +document.documentElement.dataset.answered >= enough, enough, { timeout: 120_000 })
  await open(() => page.reload())
}
await page.waitForSelector('html[data-done]', { state: 'attached', timeout: 240_000 })

const { items, open: unfinished } = await page.evaluate(async () => {
  const { intents } = await import('/index.js')
  const open = (await intents({ user: 'suite' }).unfinished()).map(({ name }) => name)
  return { items: Object.entries(localStorage), open }
})
for (const [item, value] of items) {
  const [, name] = item.split(' ')
  appendFileSync(options.journal, `${JSON.stringify({ name, answered: JSON.parse(value) })}\n`)
}
for (const name of unfinished) problems.push(`${name} is still stored`)
await browser.close()
origin.close()
origin.closeAllConnections()
if (problems.length) {
  console.error(problems.join('\n'))
  process.exitCode = 1
}
