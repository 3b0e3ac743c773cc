//! Changing a service while keys are alive: what you may change in a release, a configuration or a schema, and which
//! changes make a live key run again. This module contains documentation only.
//!
//! # The problem
//!
//! A key lives for a day, and a rolling deploy takes minutes. So a retry can reach another release than its first
//! request, and two releases use one store at the same time. Both must identify a request in the same way. Otherwise
//! the retry is not recognized: at best it gets 422 `key-reused`, at worst the handler runs a second time.
//!
//! # What identifies a request
//!
//! | part of the record key or the fingerprint | changed by | the effect on a retry | how to change it |
//! | --- | --- | --- | --- |
//! | namespace | [`IdempotencyBuilder::namespace`](crate::IdempotencyBuilder::namespace) | **runs again** | do not |
//! | secret | [`IdempotencyBuilder::secret`](crate::IdempotencyBuilder::secret) | **runs again** | [`previous_secrets`](crate::IdempotencyBuilder::previous_secrets), see below |
//! | operation | another method or route, another `name`; renaming a path parameter changes nothing | **runs again** | set `name = "POST /payments"`, the old operation, before the route changes |
//! | scope | another `scope = expr`, another [`scope` function](crate::IdempotencyBuilder::scope), another spelling of the same tenant | **runs again** | keep the serialized value the same |
//! | key | another `header` or `key = expr` | **runs again** | accept both for one TTL, in an extractor of your own |
//! | request | another path or query, `fingerprint = ..`, [`fingerprint_headers`](crate::IdempotencyBuilder::fingerprint_headers) | 422 `key-reused` | add new routes beside the old ones |
//! | digest | [`IdempotencyBuilder::digest`](crate::IdempotencyBuilder::digest) | no effect, if every instance has the feature first | first the feature everywhere, then the digest |
//!
//! "Runs again" happens silently. 422 is safe: nothing runs, and the client is told.
//!
//! # The request type of a handler
//!
//! With `fingerprint = body`, the default, the bytes of the body identify a request, not the type in `Json<T>`. You may
//! add or rename a field, or make the type stricter: a retry sends the bytes of its first request, and gets the stored
//! response even if the new type would reject them. Only a request without a record is parsed as the new type, and its
//! rejection is not stored. **This holds for handlers without expressions**: `label`, `scope`, `key` and `fingerprint =
//! expr` are computed from the arguments. A type that rejects the old bytes then answers a retry with its own 4xx,
//! before the record is looked up. In such a handler, give a new field `#[serde(default)]` for one TTL, or set the
//! scope on the builder ([`IdempotencyBuilder::scope`](crate::IdempotencyBuilder::scope)) and add the label later. The
//! *client* must send the same bytes in a request and its retry: a body that is serialized anew, with other spaces or
//! another order of members, gets 422 `key-reused`, unless the operation has `fingerprint = json`.
//!
//! # Fingerprint expressions and message types
//!
//! `fingerprint = expr` and the arguments of a plain function are compared as canonical JSON. If you add a field to the
//! type, the JSON of every value changes: a message that the old release has handled is a mismatch for the new one. So:
//!
//! * name the fields that matter (`fingerprint = (order.id, order.amount)`), and the type can grow;
//! * give a new field `#[serde(skip_serializing_if = "..")]`, so that old values keep their JSON;
//! * the *stored result* is read as the new type: add fields to it with `#[serde(default)]`. A result that cannot be
//!   read is an error, and the function does not run again.
//!
//! The order of a `HashSet` does not matter: equal sets have the same JSON.
//!
//! # Secrets
//!
//! Rotate a secret in two steps. You may deploy each step to the instances in any order, while requests and their
//! duplicates arrive at all instances:
//!
//! 1. On every instance: `secret(new)` and `previous_secrets([old])`; for a first secret,
//!    `previously_without_secret()`. Each request now has a record under each secret, claimed oldest first. An instance
//!    that knows only one of the secrets finds the request by that record.
//! 2. When every record from before step 1 has expired (the longest TTL; for abandoned records
//!    [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention), or resolve them): `secret(new)` alone.
//!
//! [`Attempt::derived_key`](crate::Attempt::derived_key) and the record key that handlers see are made with the oldest
//! secret that the first attempt knew, and stored in each record of the request. So they change at step 2, and only for
//! keys that begin after it, whichever instances the attempts of a key reach. A crashed transaction (`#[tx]`) leaves no
//! record, so its derived keys are made with the oldest secret of the instance that runs the attempt: a retry after
//! step 2 has other derived keys. If such a handler has an effect elsewhere that must not happen twice, derive the key
//! of that effect from the order.
//!
//! Never deploy `secret(new)` alone over `secret(old)`. Instances compare check values when they start and
//! log an error when they share no secret.
//!
//! # Times
//!
//! * **TTL**: counts from the completion. A new TTL applies to responses that are stored from then on, so promise a
//!   longer TTL to clients only when the old one has passed; until then, `lifetime` in `Idempotency-Status` is the TTL
//!   of the instance that answers. With `key_age = "ttl"`, be careful with a longer TTL: a key whose record has expired
//!   under the shorter TTL may be young enough under the longer one, and would run again. If clients keep keys for so
//!   long, first set the longer TTL with `key_age = "any"`, refuse old keys in an extractor of your own, and go back to
//!   `"ttl"` one new TTL later.
//! * **Lease**: a running attempt keeps the lease that it started with.
//! * **Retention** ([`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention)): stored with each record,
//!   and extended by each renewal.
//!
//! # Two releases at once
//!
//! The schema of a SQL store has a version. While the version stays the same, a release of this crate reads the records
//! of the previous release. The previous release either reads the new records or reports an error (503, logged); it
//! never treats a record as absent. Roll back as you rolled out: the older release replays the responses that the newer
//! release has stored.
//!
//! A release that needs another version of the schema refuses an older or newer table when it connects, and reads none
//! of its records. The error says what to do. In a new table, live keys run again, so change to it when the records of
//! the old table have expired.
//!
//! # Steps
//!
//! A step's result is stored under its label. After a crash, a step with a new label runs again, and a reused label
//! gives the old result to new code. You may add steps, but do not rename one while a crashed attempt may be waiting
//! for its retry.
