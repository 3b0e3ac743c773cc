//! Changing a service while keys are alive: what a release, a configuration or a schema may change, and
//! what makes a live key run again. This module contains documentation only.
//!
//! # The problem
//!
//! A key lives for a day, and a rolling deploy takes minutes. A retry can therefore reach a different release
//! than its first request did, and two releases use one store at the same time. What identifies a
//! request must be the same in both. Otherwise the retry is not recognized: at best it gets 422 `key-reused`,
//! at worst the handler runs a second time.
//!
//! # What identifies a request
//!
//! | part of the record key or the fingerprint | changed by | the effect on a retry | how to change it |
//! | --- | --- | --- | --- |
//! | namespace | [`IdempotencyBuilder::namespace`](crate::IdempotencyBuilder::namespace) | **runs again** | do not |
//! | secret | [`IdempotencyBuilder::secret`](crate::IdempotencyBuilder::secret) | **runs again** | [`previous_secrets`](crate::IdempotencyBuilder::previous_secrets), see below |
//! | operation | another method or route, another `name`; renaming a path parameter changes nothing | **runs again** | set `name = "POST /payments"`, the old operation, before the route changes |
//! | scope | another `scope = expr`, another resolver, another spelling of the same tenant | **runs again** | keep the serialized value the same |
//! | key | another `header` or `key = expr` | **runs again** | accept both for one TTL, in an extractor of your own |
//! | request | another path or query, `fingerprint = ..`, [`fingerprint_headers`](crate::IdempotencyBuilder::fingerprint_headers) | 422 `key-reused` | add new routes beside the old ones |
//! | digest | [`IdempotencyBuilder::digest`](crate::IdempotencyBuilder::digest) | no effect, if every instance has the feature first | as its documentation says |
//!
//! "Runs again" is silent. 422 is safe: nothing runs, and the client is told.
//!
//! # The request type of a handler
//!
//! With `fingerprint = body`, the default, the type of `Json<T>` identifies nothing: the bytes do. A new field, a renamed one, a
//! stricter type: a retry sends the bytes of its first request, and gets the stored response although the new type would reject
//! them. Only a request that has no record meets the new type, and its rejection is not stored. **This holds for handlers without
//! expressions**: `label`, `scope`, `key` and `fingerprint = expr` are computed from the arguments, so a type that rejects the old bytes
//! answers a retry with its own 4xx before the record is looked for. There, give a new field `#[serde(default)]` for one TTL, or set
//! the scope on the builder ([`IdempotencyBuilder::scope`](crate::IdempotencyBuilder::scope)) and keep the label for later. What the *client* sends
//! must not change between a request and its retry: a body that is serialized anew, with other spaces or another order of members, is
//! 422 `key-reused`, unless the operation says `fingerprint = json`.
//!
//! # Fingerprint expressions and message types
//!
//! `fingerprint = expr` and the arguments of a plain function are compared as canonical JSON. Adding a
//! field to the type changes the JSON of every value: a message that the old release handled is
//! a mismatch for the new one. So:
//!
//! * name the fields that matter (`fingerprint = (order.id, order.amount)`), and the type can grow;
//! * give a new field `#[serde(skip_serializing_if = "..")]`, so that old values keep their JSON;
//! * remember that the *stored result* is read as the new type: add fields with `#[serde(default)]`. A
//!   result that cannot be read is an error, and the function does not run again.
//!
//! The order of a `HashSet` does not matter: equal sets have the same JSON.
//!
//! # Secrets
//!
//! Rotating a secret takes two steps. Each may roll over the instances in any order, while requests and their
//! duplicates arrive at all of them:
//!
//! 1. On every instance: `secret(new)` and `previous_secrets([old])`; for a first secret,
//!    `previously_without_secret()`. Each request now has a record under each secret, claimed oldest first.
//!    An instance that knows only one of the secrets meets the request at that record.
//! 2. When every record from before step 1 has expired (the longest TTL; for abandoned records
//!    [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention), or resolve them): `secret(new)` alone.
//!
//! [`Attempt::derived_key`](crate::Attempt::derived_key) and the record key that handlers see are made
//! with the oldest secret that the first attempt knew, and kept in each record of the request: they change at step 2, and only
//! for keys that begin after it, whichever instances the attempts of a key reach. A transaction (`#[tx]`) leaves nothing of an
//! attempt that has crashed: its derived keys are made with the oldest secret of the instance that runs it. So a retry across step 2
//! has another one; where the effect of such a handler elsewhere must not happen twice, derive its key from the order.
//!
//! Never deploy `secret(new)` alone over `secret(old)`. Instances compare check values when they start and
//! log an error when they share no secret.
//!
//! # Times
//!
//! * **TTL**: counts from the completion. Another TTL applies to responses that are stored from then on, so a longer one may be
//!   promised to clients when the old one has passed; until then the `lifetime` of `Idempotency-Status` is that of the instance. With `key_age = "ttl"` a longer
//!   one makes keys young again whose records have expired under the shorter one: they run. Where clients keep keys for so long, set
//!   the longer TTL with `key_age = "any"` first, refuse old keys in an extractor of your own, and go back to `"ttl"` one new TTL later.
//! * **Lease**: a running attempt keeps the lease that it started with.
//! * **Retention**: stored with each record, and extended by each renewal.
//!
//! # Two releases at once
//!
//! The schema of a SQL store has a version. While it stays the same, a release of this crate reads the records of the
//! release before it, and the release before it either reads the new records or reports that it cannot: an error (503,
//! logged), never an absent record. Roll back as you rolled out: the older release replays what the newer release has
//! stored.
//!
//! A release that needs another version of the schema refuses the table when it connects, be the table older or newer: it
//! reads none of its records. The error says what to do. In another table live keys run again, so change to it when the
//! records of the old one have expired.
//!
//! # Steps
//!
//! The label of a step names its result. A renamed label runs again in the attempt after a crash; a
//! reused label gives the old result to new code. Add steps freely, but rename none while a crashed attempt
//! may be waiting for its retry.
