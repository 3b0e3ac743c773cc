/** How long and how often an intent is tried. Times are in milliseconds. */
export interface Policy {
  /** Tries of one call of `fetch`, the first one included. Default 6. */
  attempts?: number
  /** No try of one call of `fetch` begins later than this after the first, by `performance.now()` and by the clock. Default 120,000. */
  budget?: number
  /** The wait after try i is random between 0 and `base * 2 ** (i - 1)`, but at most `cap`. Default 1,000. */
  base?: number
  /** Default 30,000. */
  cap?: number
  /** How long one try may take, its body included; less at the end of the key's lifetime. Below 2^31. Default 30,000. */
  timeout?: number
  /** How long the server keeps the record of a key. Default 24 hours. */
  lifetime?: number
  /** The last part of the lifetime, which is not used; and how far the clock may be set back before a key's age counts as unknown. Default 5 minutes. */
  margin?: number
  /** `stripe` reads Stripe's errors and `Stripe-Should-Retry`, and sends the key without quotes. */
  profile?: 'idempotent' | 'stripe'
}

/** The part of Web Storage that is used. All tabs must share it, and a write must have reached the disk when `setItem` is done. Methods may return promises; one that never settles stops its intent and `unfinished`. */
export interface IntentStorage {
  readonly length: number | Promise<number>
  key(index: number): string | null | Promise<string | null>
  getItem(item: string): string | null | Promise<string | null>
  setItem(item: string, value: string): void | Promise<void>
  removeItem(item: string): void | Promise<void>
}

/** The part of Web Locks that is used. */
export interface IntentLocks {
  request<T>(name: string, work: () => Promise<T>): Promise<T>
}

/** What tests and other platforms replace. */
export interface Environment {
  /**
   * Default: IndexedDB, or the memory of this page where there is none (Node) or the page may not store anything. `null`: the memory of
   * this page. If a storage fails, the call fails, and nothing is sent, because the storage may have the key.
   */
  storage?: IntentStorage | null
  /** Default: `navigator.locks`. Without it, only calls in one page wait for each other. */
  locks?: IntentLocks | null
  fetch?: (url: string | URL, init: RequestInit) => Promise<Response>
  /** Resolves after `ms`, or when `signal` is aborted. The signal lives as long as the call of `Intent.fetch`. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>
  /** At least 0, below 1. */
  random?: () => number
  /** Milliseconds since 1970. */
  now?: () => number
  /** A key that was never used: 1 to 255 visible ASCII characters without `"`, `\`, `,` and `;`. Default: a UUID. */
  newKey?: () => string
  /** Default: `Idempotency-Key`. */
  header?: string
}

export interface Options extends Policy, Environment {
  /** The user that the intents belong to: an opaque id. It is stored unchanged. */
  user: string
}

/** Something that must happen only once, and its key. */
export interface Intent {
  readonly name: string
  /** `undefined` only if the stored record is damaged. */
  readonly key: string
  /** When the key was made, in milliseconds since 1970. */
  readonly created: number
  /** Whether the key survives a reload. `false`: the memory of the page is used. */
  readonly persisted: boolean
  /**
   * Like `fetch`, with the key, the same bytes at each try, and retries. `POST` unless `init` says otherwise,
   * redirects are not followed. Resolves with a complete, conclusive answer. A 4xx that is marked as stored closes the intent; any other 4xx
   * leaves it open, with its key. If the storage cannot record a try, the try is not sent: the call rejects with the storage's error.
   * Aborting `signal` ends the waiting, not the intent; no listener stays on the signal after a call.
   *
   * Rejects with {@link Undecided}, {@link Refused}, the signal's reason, or a `TypeError` for a mistake in the call: a `Request`
   * is one, as its body can be sent once. Pass its URL, method, headers and body.
   */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
  /**
   * Call it when the application has acted on the answer, or has decided by other means: the key is forgotten and never sent again,
   * and the next `begin` makes another.
   */
  done(): Promise<unknown>
}

export interface Intents {
  /**
   * The open intent of this name, or a new one. `payload` is what makes it this intent, as JSON: it is compared by
   * its digest, and not stored.
   *
   * Rejects with {@link IntentChanged} if the open intent has another payload, and with {@link Undecided} if its key
   * is too old (`lifetime`) or its record unreadable (`damaged`). Neither makes a new key.
   */
  begin(name: string, payload: unknown): Promise<Intent>
  /** The open intents of this user: from this page, another tab, or before a reload. */
  unfinished(): Promise<Intent[]>
}

/** The intents of one user in one browser. */
export function intents(options: Options): Intents

/**
 * The two-line form: a function that posts `data` as JSON, once, and resolves with the answer as JSON, or with `undefined` after
 * a 2xx without a body. Calls with the same data share a key until one of them is answered. Keys are in the memory of the page only.
 *
 * Functions with the same `fetch`, or without one, are the same caller: a function that is made again knows the keys and the calls
 * of the first one. A function with another `fetch` shares nothing. Where a process acts for several users, give each user one `fetch`.
 *
 * A 2xx whose body is not JSON rejects with {@link Undecided}, as a stored 5xx does: its key is kept until `error.intent.done()`.
 * A 4xx whose body is not JSON rejects with {@link Refused}: nothing happened, and the next call makes a new key.
 * For both, `reason` is the status, and the body can be read from `error.response`.
 */
export function retrying(url: string, options?: Omit<Options, 'user' | 'storage' | 'attempts'>):
  <T = any>(data: unknown, options?: { maxRetries?: number }) => Promise<T>

export {}

declare class IntentError extends Error {
  /** The intent of the call. `intent.done()` allows a new key under its name. */
  readonly intent: Intent
  readonly reason: string | number
  /** The last answer of the call, if there was one. */
  readonly response?: Response
  /** The last network failure of the call, if there was one. */
  readonly cause?: unknown
}

/** Another payload under a name whose intent is open. Nothing was sent, and no key was made. */
export class IntentChanged extends IntentError {}

/**
 * It is unknown whether the operation ran. The key is kept: `begin` and `fetch` use it again.
 * `reason`: `attempts`, `budget`, `lifetime`, `closed`, `damaged`, `unprotected`, a problem code, or the status.
 */
export class Undecided extends IntentError {}

/**
 * The request will not be carried out as it is. The key is kept, except after a 4xx of {@link retrying} that is marked as stored.
 * `reason`: `body`, a problem code, or the status.
 */
export class Refused extends IntentError {}

export const defaults: Required<Omit<Policy, 'profile'>>

/**
 * One row of the table in `clients/vectors`: what is next after an answer or a failure. `age`: of the key, by the greatest reading of
 * the clock; `Infinity` if the clock was set back. `replayed`: the answer is marked as the stored one. `code`: the problem's, or
 * `unprotected`. `told`: nine tenths of the shortest lifetime that the server has said, in milliseconds.
 */
export function decide(
  seen: {
    attempt: number, elapsed: number, age: number, random: number, sent: boolean, retryAfter?: number,
    failure?: unknown, told?: number, status?: number, code?: unknown, replayed?: boolean, advice?: string | false | null,
  },
  policy: Required<Omit<Policy, 'profile'>>,
): { next: 'retry' | 'conclude' | 'refuse' | 'undecided', reason: string | number, wait: number }
