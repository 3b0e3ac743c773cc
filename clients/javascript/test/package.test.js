// What is shipped, and what its README says.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import * as client from '../index.js'

const folder = new URL('..', import.meta.url)
const text = (file) => readFile(new URL(file, folder), 'utf8')
const manifest = JSON.parse(await text('package.json'))
const readme = await text('README.md')

test('the_shipped_javascript_is_small', async () => {
  const shipped = await Promise.all(manifest.files.filter((file) => file.endsWith('.js')).map(text))
  const bytes = gzipSync(shipped.join(''), { level: 9 }).length
  assert.ok(bytes <= 4600, `${bytes} bytes`)
})

test('the_package_has_what_it_lists_and_nothing_else', async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: folder })
  const [{ files }] = JSON.parse(stdout)
  const packed = files.map(({ path }) => path).sort()
  assert.deepEqual(packed, [...manifest.files, 'README.md', 'package.json'].sort())
})

test('it_has_no_dependencies', () => {
  for (const name of Object.keys(manifest)) assert.doesNotMatch(name, /dependencies/i)
})

test('the_types_declare_what_is_exported', async () => {
  const types = await text('index.d.ts')
  const declared = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name)
  assert.deepEqual(declared.sort(), Object.keys(client).sort())
  for (const name of Object.keys(client.defaults)) assert.match(types, new RegExp(`^ {2}${name}\\?: number`, 'm'))
})

test('the_licences_are_those_of_the_repository', async () => {
  for (const file of ['LICENSE-MIT', 'LICENSE-APACHE']) assert.equal(await text(file), await text(`../../${file}`))
  assert.equal(manifest.license, 'MIT OR Apache-2.0')
})

test('the_table_of_errors_lists_every_reason_of_the_vectors', async () => {
  const [, table] = readme.split('## Errors')
  for (const file of ['transport', 'answers', 'codes', 'retry-after', 'limits', 'plain', 'stripe']) {
    for (const { name, then } of JSON.parse(await text(`../vectors/${file}.json`))) {
      if (!then.reason || then.reason === 304) continue
      const kind = then.next === 'refuse' ? 'Refused' : 'Undecided'
      const row = table.split('\n').find((line) => line.startsWith(`| \`${kind}\` | `) && line.split('|')[2].includes(`\`${then.reason}\``))
      assert.ok(row, `${file} ${name}: no row for ${kind} ${then.reason}`)
    }
  }
})

describe('the README as it is written', () => {
  const block = (name) => readme.match(new RegExp('```js ' + name + '\\n([^`]*(?:`(?!``)[^`]*)*)```'))[1]
  const module = new URL('../index.js', import.meta.url).href
  let count = 0

  /** Runs a block as a module, with these globals; what it declares is returned. */
  const run = async (source, globals, names) => {
    const place = await mkdtemp(join(tmpdir(), 'readme-'))
    const file = join(place, `block-${count++}.mjs`)
    await writeFile(file, `${source.replaceAll("'idempotent-client'", `'${module}'`)}\nexport { ${names} }\n`)
    Object.assign(globalThis, globals)
    try {
      return await import(file)
    } finally {
      await rm(place, { recursive: true })
    }
  }

  /** A server that loses its first answer. */
  const network = () => {
    const keys = [], charges = new Map()
    const real = globalThis.fetch
    globalThis.fetch = async (url, { headers }) => {
      const key = headers.get('idempotency-key')
      keys.push(key)
      const replayed = charges.has(key)
      if (!replayed) charges.set(key, charges.size + 1)
      if (keys.length === 1) throw new TypeError('lost')
      return Response.json({ id: charges.get(key) }, { status: 201, headers: replayed ? { 'idempotent-replayed': 'true' } : {} })
    }
    return { keys, charges, restore: () => { globalThis.fetch = real } }
  }

  test('checkout_pays_once_and_ends', async () => {
    const { charges, restore } = network()
    const receipts = []
    const globals = { session: { userId: 'u-7' }, showReceipt: (receipt) => receipts.push(receipt) }
    const random = Math.random
    Math.random = () => 0
    try {
      const { pay, onPayClicked, checkout } = await run(block('checkout'), globals, 'pay, onPayClicked, checkout')
      await onPayClicked({ id: 'order-7' }, { amount: 10 })
      assert.deepEqual(receipts, [{ id: 1 }])
      assert.equal(charges.size, 1)
      const open = await checkout.begin('order-8', { amount: 10 })
      const continued = []
      await run(block('unfinished'), {
        checkout, loadOrder: async (id) => ({ id, paid: false }), offerToContinue: (order) => continued.push(order.id),
      }, '')
      assert.deepEqual(continued, ['order-8'])
      await pay({ id: 'order-8' }, { amount: 10 })
      assert.deepEqual(await checkout.unfinished(), [])
      assert.ok(open.key)
    } finally {
      Math.random = random
      restore()
    }
  })

  test('two_lines_pay_once', async () => {
    const { charges, restore } = network()
    const random = Math.random
    Math.random = () => 0
    try {
      const { payment } = await run(block('two-lines'), { data: { amount: 10 } }, 'payment')
      assert.deepEqual(payment, { id: 1 })
      assert.equal(charges.size, 1)
    } finally {
      Math.random = random
      restore()
    }
  })
})
