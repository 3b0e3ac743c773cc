// The script that every client in JavaScript runs: pay each intent until it is answered. `src/till.rs` is the same in Rust.

import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { openJournal } from './journal.js'

const { values: options } = parseArgs({
  options: Object.fromEntries(['client', 'url', 'intents', 'concurrency', 'journal', 'life'].map((name) => [name, { type: 'string' }])),
})

/** Between two calls for one intent, in milliseconds. */
const PAUSE = 50

const { openPayer } = await import(`./${options.client}.js`)
const journal = openJournal(options.journal)
const payer = await openPayer({ url: options.url, life: options.life, journal })

async function payOne(number) {
  const payment = { intent: `order-${`${number}`.padStart(5, '0')}`, amount: 100 + number }
  const name = payment.intent
  if (!journal.isAnswered(name)) {
    for (;;) {
      const { answered, wait = 0 } = await payer.call(payment)
      if (answered) {
        journal.answer(name, answered)
        break
      }
      await sleep(Math.max(wait, PAUSE))
    }
  }
  await payer.close?.(name)
}

let next = 0
await Promise.all(Array.from({ length: +options.concurrency }, async () => {
  while (next < +options.intents) await payOne(next++)
}))
