export const defaults = {
	attempts: 6, budget: 12e4, base: 1e3, cap: 3e4, timeout: 3e4, lifetime: 864e5, margin: 3e5,
}

const judge = ({ failure, status, code, replayed, advice, sent }) => {
	if (failure) return 'retry'
	const wrong = /^(missing-key|invalid-key|key-reused|unusable-input|idempotency_error)$/.test(code)
	if (status > 199 && status < 300) return 'conclude'
	if (/^(outcome-unknown|key-expired|unprotected-route)$/.test(code)) return 'undecided'
	if (replayed) return wrong || /^(in-flight|store-unavailable|shutting-down|overloaded)$/.test(code) ? 'undecided' : 'conclude'
	if (status < 400 || wrong) return 'refuse'
	if (advice != 'false' && (advice || status > 499 || /40[89]|42[59]/.test(status))) return 'retry'
	if (!sent || status > 499) return 'conclude'
	return /40[13]/.test(status) ? 'undecided' : 'retry'
}

export const decide = ({ attempt, elapsed, age, random, retryAfter = 0, ...seen }, policy) => {
	const life = Math.min(policy.lifetime - policy.margin, seen.told || 1e99) - age
	const left = Math.min(life, policy.budget - elapsed), next = judge(seen)
	const reason = next != 'retry' ? seen.code || seen.status
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
const newPlace = () => ({ memory: {}, queues: {}, running: {} })
const shared = newPlace(), places = new WeakMap()

const check = (ok, reason) => {
	if (!ok) throw new TypeError(reason)
}

const parse = (json) => {
	try { return Object(JSON.parse(json)) } catch { return {} }
}

const intentsIn = ({ memory, queues }, {
	user, storage, fetch = globalThis.fetch, random = Math.random, now = Date.now,
	sleep = (ms, signal) => new Promise((resolve) => {
		const timer = setTimeout(resolve, ms)
		signal.addEventListener('abort', () => resolve(clearTimeout(timer)))
	}),
	newKey = () => crypto.randomUUID(), locks = globalThis.navigator?.locks, header = 'Idempotency-Key', ...policy
}) => {
	policy = { ...defaults, ...policy }
	check(user?.trim?.(), 'user')
	const prefix = 'idempotent' + JSON.stringify(user), stripe = policy.profile == 'stripe', given = storage
	let works = given
	if (storage === undefined) try { storage = localStorage } catch {}

	const read = async (response) => {
		const { status, headers } = response, get = (name) => headers.get(name), after = get('retry-after')
		const bytes = await response.arrayBuffer(), body = parse(new TextDecoder().decode(bytes))
		return {
			status,
			replayed: get('idempotent-replayed') == 'true' || /^stored(;|$)/.test(get('idempotency-status')),
			retryAfter: /^\d+$/.test(after) ? after * 1e3
				: /GMT$/.test(after) && Math.max(0, Date.parse(after) - (Date.parse(get('date')) || now())) || 0,
			told: /lifetime=(\d+)$/.exec(get('idempotency-status'))?.[1] * 900,
			advice: stripe && get('stripe-should-retry'),
			code: stripe ? status == 400 && body.error?.type : /problem.json/.test(get('content-type')) && body.code,
			response: status ? new Response(bytes.byteLength ? bytes : null, response) : response,
		}
	}

	const load = async (item) => {
		try {
			const json = memory[item] ?? storage?.getItem(item)
			works = 1
			return await json
		} catch (error) {
			// It may have keys, which must not be lost.
			if (works) throw error
			storage = null
		}
	}

	const save = async (item, record, isNew) => {
		const json = JSON.stringify(record)
		if (memory[item]) memory[item] = json
		else try { await storage.setItem(item, json) } catch (error) {
			// Other tabs may know it.
			if (!isNew || given) throw error
			memory[item] = json
		}
	}

	const locked = (item, work) => {
		const run = Promise.resolve(queues[item]).then(() => storage && locks ? locks.request(item, work) : work())
		const last = queues[item] = run.catch(() => {}).then(() => { if (queues[item] == last) delete queues[item] })
		return run
	}

	// Once the clock was set back, the age is not known.
	const ageOf = (record) => {
		const time = now(), { created, latest = created } = record
		return (record.latest = time < latest - policy.margin ? 1e99 : Math.max(time, latest)) - created
	}

	const guard = async (item, intent, record) => {
		const reason = !KEY.test(intent.key ?? '') ? 'damaged' : !record ? 'closed' : ageOf(record) < policy.lifetime - policy.margin ? '' : 'lifetime'
		if (reason == 'lifetime') await save(item, record)
		if (reason) throw new Undecided(reason, { intent })
	}

	const open = (item, { key, created }, sent) => {
		const mine = async () => {
			const record = parse(await load(item))
			return record.key + '' == key + '' && record
		}
		const close = async () => await mine() && (memory[item] ? delete memory[item] : storage.removeItem(item))

		const enter = async () => {
			const record = await mine()
			await guard(item, intent, record)
			// As long as before, for a full storage.
			record.sent = record.sent ? 2 : 1
			await save(item, record)
			sent++
		}

		const leave = async (seen) => {
			const record = await mine().catch(() => {}) || { created }, age = ageOf(record)
			if (record.key && age > 1e98) await save(item, record).catch(() => {})
			const decision = decide({ ...seen, age, sent: !(sent < 2 && record.sent < 2) }, policy)
			if (decision.next == 'conclude' && /^4/.test(seen.status)) await close().catch(() => {})
			return decision
		}

		const intent = {
			name: item.slice(prefix.length), key, created,
			get persisted() { return !memory[item] },
			done: () => locked(item, close),
			async fetch(url, init = {}) {
				check(!url?.clone && !init.clone, 'pass a URL, not a Request')
				const { signal: outer } = init
				if (init.body?.getReader) throw new Refused('body', { intent })
				const request = new Request(url, init = { method: 'POST', redirect: 'manual', ...init, signal: null }), { headers } = request
				headers.set(header, stripe ? key : `"${key}"`)
				check(init.mode != 'no-cors', 'no-cors')
				init.headers = headers
				init.body &&= await request.arrayBuffer()
				outer?.throwIfAborted()
				const stop = new AbortController(), { signal } = stop, abort = () => stop.abort(outer.reason)
				const stopped = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
				stopped.catch(() => {})
				outer?.addEventListener('abort', abort)
				try {
					const begun = now()
					for (let attempt = 1; ; attempt++) {
						await Promise.race([locked(item, enter), stopped])
						const timeout = AbortSignal.timeout(policy.timeout)
						const seen = await fetch(url, { ...init, signal: AbortSignal.any([signal, timeout]) })
							.then(read).catch((cause) => ({ failure: timeout.reason ?? (cause || 1) }))
						const { response, failure: cause } = seen
						if (!response) signal.throwIfAborted()
						const { next, reason, wait } = await locked(item, () => leave({ ...seen, attempt, elapsed: now() - begun, random: random() }))
						if (next == 'conclude') return response
						if (next != 'retry') throw new (next == 'refuse' ? Refused : Undecided)(reason, { intent, response, cause })
						if (!signal.aborted) await sleep(wait, signal)
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
				const json = await load(item), resumed = json != null, time = now()
				const record = resumed ? parse(json) : { key: newKey(), created: time, latest: time, sent: 0 }
				const intent = open(item, record, +resumed)
				if (resumed) await guard(item, intent, record)
				else check(KEY.test(record.key), 'key')
				check(crypto.subtle, 'HTTPS')
				const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(record.key + text))).join()
				if (!resumed) await save(item, { ...record, digest }, true)
				else if (record.digest != digest) throw new IntentChanged('payload', { intent })
				return intent
			})
		},
		async unfinished() {
			await load(prefix)
			const items = Object.keys(memory)
			for (let i = await storage?.length; i-- > 0;) items.push(await storage.key(i))
			return Promise.all(items.filter((item) => item?.startsWith(prefix)).map(async (item) => open(item, parse(await load(item)), 1)))
		},
	}
}

export const intents = (options) => intentsIn(shared, options)

export const retrying = (url, policy) => {
	policy = { ...policy }
	// The credentials are in `fetch`.
	const caller = policy.fetch ?? globalThis, place = places.get(caller) ?? newPlace(), { running } = place
	places.set(caller, place)
	return (payload, { maxRetries = 3 } = {}) => {
		const body = JSON.stringify(payload), name = url + ' ' + body
		const page = intentsIn(place, { ...policy, user: 'page', storage: null, attempts: maxRetries + 1 })
		return running[name] ??= page.begin(name, payload).then(async (intent) => {
			const response = await intent.fetch(url, { headers: { 'content-type': 'application/json' }, body })
			const { status, ok } = response, text = await response.clone().text()
			if (status > 499) throw new Undecided(status, { intent, response })
			let json
			try {
				// An empty failure is no success.
				if (text || !ok) json = JSON.parse(text)
			} catch (cause) {
				throw new (ok ? Undecided : Refused)(status, { intent, response, cause })
			}
			await intent.done()
			return json
		}).finally(() => delete running[name])
	}
}
