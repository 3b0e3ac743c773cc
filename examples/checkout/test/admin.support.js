// The page for operators, in front of an example that can crash a payment.

import { startExample } from './support.js'

const PASSWORD = 'only for this test'

/** The example, with so many abandoned records. */
export const startAdmin = (abandoned = 12) =>
  startExample('admin', { args: ['--abandoned', `${abandoned}`], env: { ADMIN_PASSWORD: PASSWORD } })

/** An operator who has logged in, with the overview open. No test may meet an error in the console, or a request to another host. */
export async function operate(browser, url, options = {}) {
  const httpCredentials = { username: 'anna', password: PASSWORD }
  const context = await browser.newContext({ httpCredentials, ...options })
  context.setDefaultTimeout(25_000)
  const operator = { context, problems: [] }
  const { origin } = new URL(url)
  context.on('console', (message) => {
    const isStatus = /Failed to load resource: the server responded with a status of (4\d\d|503)/.test(message.text())
    if (message.type() == 'error' && !isStatus) operator.problems.push(message.text())
  })
  context.on('request', (request) => {
    if (!request.url().startsWith(origin)) operator.problems.push(`asked ${request.url()}`)
  })
  operator.page = await context.newPage()
  await operator.page.goto(url)
  return operator
}

/** Sends a payment as a client does: always the same request, with the same key. */
export const pay = async (url, { key, crash = true }) => {
  const address = new URL(`/api/payments?crash=${crash}`, url)
  const headers = { 'content-type': 'application/json', 'idempotency-key': key }
  const body = JSON.stringify({ id: `order ${key}`, amount: 1000 })
  const answer = await fetch(address, { method: 'POST', headers, body })
  return { status: answer.status, replayed: answer.headers.get('idempotent-replayed'), type: answer.headers.get('content-type'), text: await answer.text() }
}

/** A payment that crashed behind its charge, and is known to be abandoned. */
export async function crash(url, key) {
  await pay(url, { key }).then(() => { throw new Error('it has an answer') }, () => {})
  for (let attempt = 0; attempt < 100; attempt++) {
    const answer = await pay(url, { key }).catch(() => ({}))
    if (answer.text?.includes('outcome-unknown')) return
    await new Promise((done) => setTimeout(done, 100))
  }
  throw new Error('the crashed payment is not abandoned')
}
