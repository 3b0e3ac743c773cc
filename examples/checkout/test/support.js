// The example as a process, and Chromium in front of it.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const EXAMPLES = process.env.CHECKOUT_EXAMPLES ?? fileURLToPath(new URL('../../../target/debug/examples', import.meta.url))
const CHROMIUM = process.env.CHECKOUT_CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)

const QUIET = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync']

/** Starts an example on a free port. */
export async function startExample(name = 'checkout', { args = [], env = {} } = {}) {
  const options = { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, ...env } }
  const example = spawn(join(EXAMPLES, name), ['--addr', '127.0.0.1:0', ...args], options)
  const failed = once(example, 'error').then(([error]) => { throw error })
  const started = (async () => {
    for await (const line of createInterface({ input: example.stdout })) {
      const url = line.match(/http:\S+/)
      if (url) return url[0]
    }
    throw new Error('the example ended without naming its URL')
  })()
  const url = await Promise.race([started, failed])
  example.stdout.resume()
  return { url, stop: () => example.kill('SIGKILL') }
}

/** Starts Chromium, with a profile of its own that is removed when it is closed. */
export const startBrowser = (...args) => chromium.launch({ executablePath: CHROMIUM, args: [...QUIET, ...args] })

/** A visitor who has never been here, with the checkout open. */
export async function visit(browser, url, { fault = 'none', naive = false, ...options } = {}) {
  const context = await browser.newContext(options)
  context.setDefaultTimeout(25_000)
  const visitor = { context, problems: [] }
  // What the policy forbids, and what the page has not foreseen.
  context.on('weberror', (error) => visitor.problems.push(`${error.error()}`))
  context.on('console', (message) => {
    const isNetwork = /Failed to load resource|net::ERR/.test(message.text())
    if (message.type() == 'error' && !isNetwork) visitor.problems.push(message.text())
  })
  context.on('request', (request) => {
    const address = request.url()
    if (!address.startsWith(url) && !address.startsWith('data:')) visitor.problems.push(`asked ${address}`)
  })
  visitor.page = await openTab(visitor, url)
  await visitor.page.locator(`input[value="${fault}"]`).check()
  if (naive) await visitor.page.getByRole('switch', { name: /Without this library/ }).check()
  return visitor
}

export async function openTab({ context }, url) {
  const page = await context.newPage()
  await page.goto(url)
  await ready(page)
  return page
}

export const ready = (page) => page.waitForSelector('html[data-ready]')

export const pay = (page) => page.getByRole('button', { name: /^Pay/ }).click()

export const paid = (page) => page.getByRole('heading', { name: 'Paid. Thank you!' }).waitFor()

/** No call of the page is running any more. */
export const settled = (page) => page.waitForSelector('html:not([data-running])')

export const tries = (page) => page.locator('.try').evaluateAll((all) => all.map((tried) => ({
  key: tried.querySelector('code').textContent,
  status: tried.querySelector('p > span:nth-of-type(2)').textContent,
  replayed: !tried.querySelector('.badge').hidden,
})))

/** What the bank has, asked without the page. */
export async function charges(page) {
  const { id } = await page.evaluate(() => JSON.parse(localStorage['checkout-order']))
  return (await (await fetch(new URL(`/api/orders/${id}`, page.url()))).json()).length
}
