// The script with `axios-retry`: a new UUID at each call, which is what a program has that keeps no key.

import axios from 'axios'
import axiosRetry from 'axios-retry'
import { ATTEMPTS, BASE, LIFE, STATUSES, TIMEOUT, waitOf } from './policy.js'

export function openPayer({ url, life }) {
  const client = axios.create({ timeout: TIMEOUT, maxRedirects: 0 })
  axiosRetry(client, {
    retries: ATTEMPTS - 1,
    // The default does not retry a POST.
    retryCondition: ({ response }) => !response || STATUSES.includes(response.status),
    retryDelay: (count, error) => axiosRetry.exponentialDelay(count, error, BASE / 2),
    shouldResetTimeout: true,
  })
  return {
    async call(payment) {
      try {
        const headers = { 'idempotency-key': crypto.randomUUID(), [LIFE]: life }
        const { status, data } = await client.post(url, payment, { headers })
        return { answered: { status, charge: data.charge } }
      } catch (error) {
        return { wait: waitOf(error.response?.headers['retry-after']) }
      }
    },
  }
}
