// In a real Chromium (apt-get install chromium); skipped without one. What only a browser does: it sends a request again by
// itself, has several processes, and is killed.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

const CHROMIUM = process.env.CHECKOUT_CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
const MODULE = readFileSync(new URL('../index.js', import.meta.url))
const OPTIONS = { skip: !CHROMIUM, timeout: 60_000 }
const QUIET = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync',
  '--disable-popup-blocking', '--disable-renderer-backgrounding',
]

/** A site with one page, whose script is `script`, on connections that are kept. `play` answers everything else. */
const openSite = async (script, play) => {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { pathname, search } = new URL(request.url, 'http://a')
    if (pathname == '/') return response.setHeader('content-type', 'text/html').end(`<script type="module">${script}</script>`)
    if (pathname == '/index.js') return response.setHeader('content-type', 'text/javascript').end(MODULE)
    await play({ pathname, query: search.slice(1), body, key: request.headers['idempotency-key'], socket: request.socket, isPost: request.method == 'POST' }, response)
  })
  server.keepAliveTimeout = 60_000
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

/** Shows the site in a new profile: `show` starts the browser, and `kill` ends it as a crash does. */
const withBrowser = async (server, work, preferences = {}) => {
  const profile = mkdtempSync(join(tmpdir(), 'chromium-'))
  mkdirSync(join(profile, 'Default'))
  writeFileSync(join(profile, 'Default/Preferences'), JSON.stringify(preferences))
  let browser
  const kill = async () => {
    if (!browser) return
    const { pid } = browser, gone = new Promise((resolve) => browser.on('exit', resolve))
    browser = undefined
    // With all its processes.
    try { process.kill(-pid, 'SIGKILL') } catch {}
    await gone
    await sleep(500)
    rmSync(join(profile, 'SingletonLock'), { force: true })
  }
  const show = () => {
    browser = spawn(CHROMIUM, [...QUIET, `--user-data-dir=${profile}`, `http://127.0.0.1:${server.address().port}/`], { stdio: 'ignore', detached: true })
  }
  try {
    return await work({ show, kill })
  } finally {
    await kill()
    server.closeAllConnections()
    server.close()
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
  }
}

const late = (what) => sleep(40_000, undefined, { ref: false }).then(() => { throw new Error(`in time: no ${what}`) })

/** Runs `script` in a page, and resolves with what it passes to `report`, and the payments that have arrived. */
const inChromium = async (script, pay, preferences) => {
  const arrivals = []
  let reported
  const report = new Promise((resolve) => { reported = resolve })
  const whole = `
    import { intents } from '/index.js'
    const report = (result) => fetch('/report', { method: 'POST', body: JSON.stringify(result) })
    ${script}`
  const server = await openSite(whole, (request, response) => {
    if (request.pathname == '/report') reported(JSON.parse(request.body))
    else if (request.isPost) return pay(arrivals.push(request), response, request)
    response.end('ok')
  })
  return withBrowser(server, async ({ show }) => {
    show()
    return { result: await Promise.race([report, late('report')]), arrivals }
  }, preferences)
}

for (const status of [401, 404, 422]) {
  test(`first_${status}_after_the_browser_has_sent_the_request_twice_keeps_the_key`, OPTIONS, async () => {
    const charges = []
    const { result, arrivals } = await inChromium(`
      const checkout = intents({ user: 'ann', attempts: 2, base: 1 })
      await (await fetch('/warm')).text()
      const intent = await checkout.begin('order-1', { amount: 10 })
      const first = await intent.fetch('/payments', { body: '{}' }).then(({ status }) => status)
      const next = await checkout.begin('order-1', { amount: 10 })
      const second = await next.fetch('/payments', { body: '{}' }).then(({ status }) => status)
      await report({ first, second, isSameKey: next.key == intent.key })
    `, (number, response, { key, socket }) => {
      // The charge is made, and the instance dies before it has answered.
      if (number == 1) { charges.push(key); return socket.destroy() }
      // What is in front of the service turns the second one away, without a look at the key.
      if (number == 2) return response.writeHead(status).end('a gate')
      if (!charges.includes(key)) charges.push(key)
      response.writeHead(201, charges[0] == key ? { 'idempotent-replayed': 'true' } : {}).end('paid')
    })
    assert.equal(arrivals.length, 3)
    assert.equal(charges.length, 1)
    assert.deepEqual(result, { first: status, second: 201, isSameKey: true })
  })
}

test('relative_address_is_the_same_at_each_try_although_the_page_has_moved_on', OPTIONS, async () => {
  const { arrivals } = await inChromium(`
    history.pushState(null, '', '/orders/1/')
    const sleep = async () => history.pushState(null, '', '/orders/2/')
    const intent = await intents({ user: 'ann', sleep }).begin('order-1', { amount: 10 })
    await intent.fetch('confirm', { body: '{}' })
    await report('done')
  `, (number, response) => response.writeHead(number == 1 ? 503 : 201).end('{}'))
  assert.deepEqual(arrivals.map(({ pathname }) => pathname), ['/orders/1/confirm', '/orders/1/confirm'])
})

test('two_lines_pay_at_the_address_of_the_page_that_has_called', OPTIONS, async () => {
  const { result } = await inChromium(`
    const { retrying } = await import('/index.js'), confirm = retrying('confirm', { base: 1 })
    history.pushState(null, '', '/orders/1/')
    const first = confirm({ amount: 10 })
    history.pushState(null, '', '/orders/2/')
    await report(await Promise.all([first, confirm({ amount: 10 })]))
  `, (number, response, { pathname, key }) => response.end(JSON.stringify({ pathname, key })))
  assert.deepEqual(result.map(({ pathname }) => pathname), ['/orders/1/confirm', '/orders/2/confirm'])
  assert.notEqual(result[0].key, result[1].key)
})

test('page_finds_what_is_unfinished_in_its_database_and_ends_it', OPTIONS, async () => {
  const { result } = await inChromium(`
    const shop = intents({ user: 'ann' }), others = intents({ user: 'bob' })
    const one = await shop.begin('order-1', 1), two = await shop.begin('order-2', 1)
    await others.begin('order-1', 1)
    const before = (await shop.unfinished()).map(({ name, persisted }) => name + persisted).sort()
    await one.done()
    const after = (await shop.unfinished()).map(({ name, key }) => name + (key == two.key))
    const isAnother = (await shop.begin('order-1', 1)).key != one.key
    await report({ before, after, isAnother, inLocalStorage: localStorage.length })
  `)
  assert.deepEqual(result, { before: ['order-1true', 'order-2true'], after: ['order-2true'], isAnother: true, inLocalStorage: 0 })
})

test('page_is_not_in_the_way_of_another_one_that_deletes_the_database_or_upgrades_it', OPTIONS, async () => {
  const { result } = await inChromium(`
    const checkout = intents({ user: 'ann' }), { intents: inAnotherPage } = await import('/index.js?2')
    const within = (promise) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, 5000, 'hangs'))])
    const settled = (asked) => within(new Promise((resolve) => { asked.onsuccess = () => resolve('done') }))
    const intent = await checkout.begin('order-1', 1)
    const results = [await settled(indexedDB.deleteDatabase('idempotent'))]
    results.push(await within(intent.fetch('/payments').catch(({ reason }) => reason)))
    const other = await within(inAnotherPage({ user: 'ann' }).begin('order-1', 1))
    results.push((await within(checkout.begin('order-1', 1))).key == other.key)
    const upgrade = indexedDB.open('idempotent', 2)
    results.push(await settled(upgrade))
    upgrade.result.close()
    results.push((await within(checkout.begin('order-1', 1))).key == other.key)
    await report(results)
  `, (number, response) => response.end())
  assert.deepEqual(result, ['done', 'closed', true, 'done', true])
})

test('page_that_may_not_store_anything_remembers', OPTIONS, async () => {
  const cookiesAreBlocked = { profile: { default_content_setting_values: { cookies: 2 } } }
  const { result } = await inChromium(`
    let denied
    try { localStorage } catch ({ name }) { denied = name }
    const begin = () => intents({ user: 'ann' }).begin('order-1', 1)
    try {
      const one = await begin(), two = await begin()
      await report({ denied, persisted: one.persisted, isSameKey: one.key == two.key })
    } catch (error) { await report({ denied, error: String(error) }) }
  `, undefined, cookiesAreBlocked)
  assert.deepEqual(result, { denied: 'SecurityError', persisted: false, isSameKey: true })
})

for (const [when, after] of [['at_once', 0], ['after_two_seconds', 2000]]) {
  test(`key_survives_a_browser_that_is_killed_${when}_after_it_was_sent`, OPTIONS, async () => {
    const charges = []
    let sent
    const server = await openSite(`
      import { intents } from '/index.js'
      const intent = await intents({ user: 'ann' }).begin('order-1', { amount: 10 })
      await intent.fetch('/payments', { body: JSON.stringify({ persisted: intent.persisted }) })
    `, ({ isPost, key, body }, response) => {
      if (!isPost) return response.writeHead(404).end()
      // Charged, and the answer takes its time.
      charges.push({ key, ...JSON.parse(body) })
      sent()
    })
    await withBrowser(server, async ({ show, kill }) => {
      for (let visit = 0; visit < 2; visit++) {
        const payment = new Promise((resolve) => { sent = resolve })
        show()
        await Promise.race([payment, late('payment')])
        await sleep(after)
        await kill()
      }
    })
    assert.deepEqual(charges.map(({ persisted }) => persisted), [true, true])
    assert.equal(charges[1].key, charges[0].key)
  })
}

test('two_tabs_that_begin_at_the_same_moment_send_one_key', OPTIONS, async () => {
  const rounds = 200, keys = [], errors = [], waiting = {}
  let ended = 0, end
  const over = new Promise((resolve) => { end = resolve })
  const server = await openSite(`
    import { intents } from '/index.js'
    if (location.hash != '#two') window.open('/#two', '_blank', 'noopener')
    const checkout = intents({ user: 'ann', attempts: 1 })
    for (let round = 0; round < ${rounds}; round++) {
      await (await fetch('/go?' + round, { method: 'POST' })).text()
      try {
        const intent = await checkout.begin('order-' + round, { amount: 10 })
        await intent.fetch('/payments?' + round, { body: '{}' })
      } catch (error) { await fetch('/error', { method: 'POST', body: error.name + ' ' + error.reason }) }
    }
    await fetch('/end', { method: 'POST' })
  `, ({ pathname, query, key, body }, response) => {
    if (pathname == '/go') {
      const tabs = waiting[query] ??= []
      tabs.push(response)
      if (tabs.length == 2) for (const tab of tabs) tab.end('go')
      return
    }
    if (pathname == '/error') errors.push(body)
    if (pathname == '/payments') (keys[query] ??= new Set()).add(key)
    if (pathname == '/end' && ++ended == 2) end()
    response.end('{}')
  })
  await withBrowser(server, async ({ show }) => {
    show()
    await Promise.race([over, late('end')])
  })
  assert.deepEqual(errors, [])
  assert.deepEqual(keys.map(({ size }) => size), Array(rounds).fill(1))
})
