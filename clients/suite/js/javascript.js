// The script with `idempotent-client`: the key is stored before the first send, and sent until it is answered.

import { Undecided, intents } from '../../javascript/index.js'
import { ATTEMPTS, BASE, CAP, LIFE, TIMEOUT, waitOf } from './policy.js'

export async function openPayer({ url, life, journal }) {
  const shop = intents({
    user: 'suite', storage: journal.storage, attempts: ATTEMPTS, base: BASE, cap: CAP, timeout: TIMEOUT,
  })
  // An earlier life may have died between the answer and `done`.
  for (const intent of await shop.unfinished()) {
    if (journal.isAnswered(intent.name)) await intent.done()
  }
  const open = new Map()
  return {
    async call(payment) {
      const intent = await shop.begin(payment.intent, payment)
      open.set(payment.intent, intent)
      try {
        const response = await intent.fetch(url, {
          headers: { 'content-type': 'application/json', [LIFE]: life },
          body: JSON.stringify(payment),
        })
        const { charge = null } = await response.json()
        return { answered: { status: response.status, charge } }
      } catch (error) {
        // The tries of this call are used up. The next call has the same key.
        if (!(error instanceof Undecided) || !['attempts', 'budget'].includes(error.reason)) throw error
        return { wait: waitOf(error.response?.headers.get('retry-after')) }
      }
    },
    /** The answer is in the journal: the key is not needed any more. */
    close: (name) => open.get(name)?.done(),
  }
}
