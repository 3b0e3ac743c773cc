// The same for every client: short, so that ten thousand intents end in minutes.

export const LIFE = 'suite-life'

/** The tries of one call, the first and the greatest back-off, and how long a try may take. In milliseconds. */
export const ATTEMPTS = 6
export const BASE = 20
export const CAP = 500
export const TIMEOUT = 4000

/** What `idempotent-client` retries, which is more than the defaults of the others. */
export const STATUSES = [408, 409, 413, 425, 429, 499, 500, 502, 503, 504]

/** What the last answer of a call asks the script to wait. A date of this suite is never further away than 2 s. */
export const waitOf = (retryAfter) => retryAfter == null ? 0 : /^\d+$/.test(retryAfter) ? retryAfter * 1000 : 2000
