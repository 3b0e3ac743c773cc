export const defaults = {
	attempts: 6, budget: 12e4, base: 1e3, cap: 3e4, timeout: 3e4, lifetime: 864e5, margin: 3e5,
}

const judge = ({ failure, status, code, replayed, advice, sent }) => {
	if (failure) return ['retry']
	const wrong = /^(missing-key|invalid-key|key-reused|unusable-input|idempotency_error)$/.test(code)
	if (status > 199 && status < 300) return ['conclude']
	if (/^(outcome-unknown|key-expired|unprotected(-route)?)$/.test(code)) return ['undecided', code]
	if (replayed) return wrong || /^(in-flight|store-unavailable|shutting-down|overloaded)$/.test(code) ? ['undecided', code] : ['conclude']
	if (wrong) return ['refuse', code]
	if (status < 400) return ['refuse']
	if (advice == 'true' || advice != 'false' && (status > 499 || /40[89]|42[59]|499/.test(status))) return ['retry']
	if (!sent || status > 499) return ['conclude']
	return [/40[13]/.test(status) ? 'undecided' : 'retry']
}

export const decide = ({ attempt, elapsed, age, random, retryAfter = 0, ...seen }, policy) => {
	const life = Math.min(policy.lifetime - policy.margin, seen.told || 1e99) - age, left = Math.min(life, policy.budget - elapsed)
	const [next, said = seen.status] = judge(seen)
	const reason = next != 'retry' ? said
		: attempt >= policy.attempts ? 'attempts' : left > retryAfter ? '' : left == life ? 'lifetime' : 'budget'
	return {
		next: next == 'retry' && reason ? 'undecided' : next, reason,
		wait: retryAfter + random * Math.min(left - retryAfter, policy.cap, policy.base * 2 ** (attempt - 1)),
	}
}

const kind = (name) => class extends Error {
	constructor(reason, fields) {
		Object.assign(super(reason), fields, { name, reason })
	}
}
export const IntentChanged = kind('IntentChanged')
export const Undecided = kind('Undecided')
export const Refused = kind('Refused')

const KEY = /^[!#-+\--:<-[\]-~]{1,255}$/
const newMemory = () => {
	const items = new Map()
	return {
		names: () => [...items.keys()],
		getItem: (item) => items.get(item),
		setItem: (item, value) => items.set(item, value),
		removeItem: (item) => items.delete(item),
	}
}

// What is written is on the disk, and in every tab.
const settled = (it, done, failed) => new Promise((resolve, reject) => {
	it[done] = () => resolve(it.result)
	it[failed] = () => reject(it.error)
})
const transact = async (mode, method, ...values) => {
	const asked = indexedDB.open('idempotent')
	asked.onupgradeneeded = () => asked.result.createObjectStore('intents')
	const connection = await settled(asked, 'onsuccess', 'onerror')
	const transaction = connection.transaction('intents', mode, { durability: 'strict' })
	// An open database cannot be deleted.
	connection.close()
	const request = transaction.objectStore('intents')[method](...values)
	await settled(transaction, 'oncomplete', 'onabort')
	return request.result
}
const database = {
	names: () => transact('readonly', 'getAllKeys'),
	getItem: (item) => transact('readonly', 'get', item),
	setItem: (item, value) => transact('readwrite', 'put', value, item),
	removeItem: (item) => transact('readwrite', 'delete', item),
}

const ownStorage = () => {
	// `localStorage` throws where nothing may be stored.
	try { return globalThis.indexedDB && (globalThis.localStorage, database) } catch {}
}

const newPlace = () => ({ memory: newMemory(), queues: {}, running: {} })
const shared = newPlace(), places = new WeakMap()

const aborted = (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

const check = (ok, reason) => {
	if (!ok) throw new TypeError(reason)
}

const parse = (json) => {
	try { return Object(JSON.parse(json)) } catch { return {} }
}

const intentsIn = ({ memory, queues }, {
	user, storage = ownStorage(), fetch = globalThis.fetch, random = Math.random, now = Date.now,
	sleep = (ms, signal) => new Promise((resolve) => {
		const timer = setTimeout(resolve, ms)
		signal.onabort = () => resolve(clearTimeout(timer))
	}),
	newKey = () => crypto.randomUUID(), locks = globalThis.navigator?.locks, header = 'Idempotency-Key', ...policy
}) => {
	for (const name in defaults) policy[name] ??= defaults[name]
	check(user?.trim?.(), 'user')
	const prefix = 'idempotent' + JSON.stringify(user), stripe = policy.profile == 'stripe'
	storage ??= memory

	const read = ({ response, bytes }) => {
		const { status, headers } = response, get = (name) => headers.get(name), after = get('retry-after'), says = get('idempotency-status')
		const body = parse(new TextDecoder().decode(bytes))
		return {
			status,
			replayed: /^true(, ?true)*$/.test(get('idempotent-replayed')) || /^stored *(;|$)/.test(says),
			retryAfter: /^\d+$/.test(after) ? after * 1e3
				: /GMT$/.test(after) && Math.max(0, Date.parse(after) - (Date.parse(get('date')) || now())) || 0,
			told: /;\s*lifetime=(\d+)\s*(;|$)/.exec(says)?.[1] * 900,
			advice: stripe && get('stripe-should-retry'),
			code: get('idempotency-degraded') == 'true' || /^unprotected *(;|$)/.test(says) ? 'unprotected'
				: stripe ? status == 400 && body.error?.type
				: /^application\/problem\+json\s*(;|$)/i.test(get('content-type')) && body.code,
			// Node throws at some reason phrases.
			response: status ? new Response(bytes.byteLength ? bytes : null, { status, headers }) : response,
		}
	}

	const save = async (item, record) => storage.setItem(item, JSON.stringify(record))

	const locked = (item, work) => {
		const run = Promise.resolve(queues[item]).then(() => storage != memory && locks ? locks.request(item, work) : work())
		const last = queues[item] = run.catch(() => {}).then(() => { if (queues[item] == last) delete queues[item] })
		return run
	}

	// Once the clock was set back, the age is not known.
	const ageOf = (record) => {
		const time = now(), { created, latest = created } = record
		return (record.latest = time < latest - policy.margin ? 1e99 : Math.max(time, latest)) - created
	}

	const guard = async (item, last, record, told = 1e99, sends) => {
		if (!KEY.test(last.intent.key ?? '')) throw new Undecided('damaged', last)
		if (!record) throw new Undecided('closed', last)
		const json = JSON.stringify(record), age = ageOf(record)
		// As long as before, for a full storage.
		if (sends) record.sent = record.sent ? 2 : 1
		if (JSON.stringify(record) != json) await save(item, record)
		if (!(age < Math.min(policy.lifetime - policy.margin, told))) throw new Undecided('lifetime', last)
		return age
	}

	const open = (item, { key, created }, sent) => {
		const mine = async () => {
			const record = parse(await storage.getItem(item))
			return record.key + '' == key + '' && record
		}
		const close = async () => await mine() && storage.removeItem(item)

		const leave = async (seen, elapsed) => {
			const record = await mine().catch(() => {}) || { created }, age = ageOf(record)
			if (record.key) await save(item, record).catch(() => {})
			const decision = decide({ ...seen, age, elapsed: elapsed(age), random: random(), sent: !(sent < 2 && record.sent < 2) }, policy)
			// Unmarked, it may be a gate's, and browsers send a request again by themselves.
			if (decision.next == 'conclude' && seen.replayed && /^4/.test(seen.status)) await close().catch(() => {})
			return decision
		}

		const intent = {
			name: item.slice(prefix.length), key, created, persisted: storage != memory,
			done: () => locked(item, close),
			async fetch(url, init = {}) {
				check(!url?.clone && !init.clone, 'a URL, not a Request')
				const last = { intent }, outer = init.signal
				if (init.body?.getReader) throw new Refused('body', last)
				const request = new Request(url, init = { method: 'POST', redirect: 'manual', ...init, signal: null }), { headers } = request
				headers.set(header, stripe ? key : `"${key}"`)
				check(init.mode != 'no-cors', 'no-cors')
				init.headers = headers
				init.body &&= await request.arrayBuffer()
				outer?.throwIfAborted()
				const stop = new AbortController(), { signal } = stop, abort = () => stop.abort(outer.reason)
				const stopped = aborted(signal)
				stopped.catch(() => {})
				outer?.addEventListener('abort', abort)
				let begun, firstAge, told = 1e99
				// One may stand still while a laptop sleeps, the other is set.
				const elapsed = (age) => Math.max(performance.now() - begun, age - firstAge)
				try {
					for (let attempt = 1; ; attempt++) {
						const age = await Promise.race([locked(item, async () => guard(item, last, await mine(), told, true)), stopped])
						sent++
						begun ??= performance.now()
						firstAge ??= age
						if (elapsed(age) > policy.budget) throw new Undecided('budget', last)
						const timeout = AbortSignal.timeout(Math.floor(Math.min(policy.timeout, Math.min(policy.lifetime, told) - age)))
						init.signal = AbortSignal.any([signal, timeout])
						const came = await Promise.race([fetch(request.url, { ...init }).then(async (response) => ({ response, bytes: await response.arrayBuffer() })), aborted(init.signal)])
							.catch((cause) => ({ failure: timeout.reason ?? (cause || 1) }))
						const seen = came.failure ? came : read(came), { response = last.response, failure: cause = last.cause } = seen
						if (seen.failure) signal.throwIfAborted()
						Object.assign(last, { response, cause })
						told = Math.min(told, seen.told || 1e99)
						const left = locked(item, () => leave({ ...seen, told, attempt }, elapsed))
						left.catch(() => {})
						// Whatever the storage does.
						if (seen.response?.ok) return response
						const { next, reason, wait } = await Promise.race([left, stopped])
						if (next == 'conclude') return response
						if (next != 'retry') throw new (next == 'refuse' ? Refused : Undecided)(reason, last)
						await sleep(wait, signal)
						signal.throwIfAborted()
					}
				} finally {
					outer?.removeEventListener('abort', abort)
				}
			},
		}
		return intent
	}

	return {
		async begin(name, payload) {
			const item = prefix + name, text = JSON.stringify(payload)
			check(text != '{}', 'payload')
			return locked(item, async () => {
				const json = await storage.getItem(item), resumed = json != null, time = now()
				const record = resumed ? parse(json) : { key: newKey(), created: time, latest: time, sent: 0 }
				const intent = open(item, record, +resumed)
				if (resumed) await guard(item, { intent }, record)
				else check(KEY.test(record.key), 'key')
				check(crypto.subtle, 'HTTPS')
				const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(record.key + text))).join()
				if (!resumed) await save(item, { ...record, digest })
				else if (record.digest != digest) throw new IntentChanged('payload', { intent })
				return intent
			})
		},
		async unfinished() {
			const length = await storage.length, found = []
			// The indices change.
			const names = length == null ? storage.names() : Promise.all(Array.from({ length }, (_, i) => storage.key(i)))
			for (const item of await names) {
				const json = item?.startsWith(prefix) ? await storage.getItem(item) : null
				if (json != null) found.push(open(item, parse(json), 1))
			}
			return found
		},
	}
}

export const intents = (options) => intentsIn(shared, options)

export const retrying = (url, policy) => {
	policy = { ...policy }
	// The credentials are in `fetch`.
	const caller = policy.fetch ?? globalThis, place = places.get(caller) ?? newPlace(), { running } = place
	places.set(caller, place)
	return async (payload, { maxRetries = 3 } = {}) => {
		const body = JSON.stringify(payload), address = new Request(url).url, name = address + ' ' + body
		const page = intentsIn(place, { ...policy, user: 'page', storage: null, attempts: maxRetries + 1 })
		return running[name] ??= page.begin(name, payload).then(async (intent) => {
			const response = await intent.fetch(address, { headers: { 'content-type': 'application/json' }, body })
			const { status, ok } = response, text = await response.clone().text()
			if (status > 499) throw new Undecided(status, { intent, response })
			let json
			try {
				// An empty failure is no success.
				if (text || !ok) json = JSON.parse(text)
			} catch (cause) {
				throw new (ok ? Undecided : Refused)(status, { intent, response, cause })
			}
			if (ok) await intent.done()
			return json
		}).finally(() => delete running[name])
	}
}
