// The script with `ky`: a new UUID at each call, which is what a program has that keeps no key.

import ky from 'ky'
import { ATTEMPTS, BASE, CAP, LIFE, STATUSES, TIMEOUT, waitOf } from './policy.js'

export function openPayer({ url, life }) {
  const client = ky.create({
    timeout: TIMEOUT * ATTEMPTS,
    retry: {
      limit: ATTEMPTS - 1, methods: ['post'], statusCodes: STATUSES, afterStatusCodes: STATUSES, backoffLimit: CAP,
      delay: (attempt) => Math.random() * BASE * 2 ** (attempt - 1),
    },
    // `timeout` is for all tries together: this is for each.
    fetch: (request) => fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT)]) }),
  })
  return {
    async call(payment) {
      try {
        const headers = { 'idempotency-key': crypto.randomUUID(), [LIFE]: life }
        const response = await client.post(url, { json: payment, headers })
        const { charge } = await response.json()
        return { answered: { status: response.status, charge } }
      } catch (error) {
        return { wait: waitOf(error.response?.headers.get('retry-after')) }
      }
    },
  }
}
