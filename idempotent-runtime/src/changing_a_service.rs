//! Changing a service while keys are alive: what a release, a configuration or a schema may change, and
//! what makes a live key run again. This module holds documentation only.
//!
//! # The problem
//!
//! A key lives for a day, and a rolling deploy for minutes. A retry can therefore reach another release
//! than its first request did, and two releases serve one store at the same time. What identifies a
//! request must be the same in both, or the retry is a stranger: at best 422 `key-reused`, at worst a
//! second run.
//!
//! # What identifies a request
//!
//! | part of the record key or the fingerprint | changed by | a retry then | change it by |
//! | --- | --- | --- | --- |
//! | namespace | [`IdempotencyBuilder::namespace`](crate::IdempotencyBuilder::namespace) | **runs again** | do not |
//! | secret | [`IdempotencyBuilder::secret`](crate::IdempotencyBuilder::secret) | **runs again** | [`previous_secrets`](crate::IdempotencyBuilder::previous_secrets), see below |
//! | operation | another method or route, another `name`; renaming a path parameter changes nothing | **runs again** | set `name = ".."` to the old operation before the route changes |
//! | scope | another `scope = expr`, another resolver, another spelling of the same tenant | **runs again** | keep the serialized value the same |
//! | key | another `header` or `key = expr` | **runs again** | accept both for a TTL, in an extractor of your own |
//! | request | another path or query, `fingerprint = ..`, [`fingerprint_headers`](crate::IdempotencyBuilder::fingerprint_headers) | 422 `key-reused` | new routes beside old ones |
//! | digest | [`IdempotencyBuilder::digest`](crate::IdempotencyBuilder::digest) | nothing changes, with the feature everywhere first | as its documentation says |
//!
//! "Runs again" is silent. 422 is safe: nothing runs, and the client is told.
//!
//! # Fingerprint expressions and message types
//!
//! `fingerprint = expr`, and the arguments of a plain function, are compared as canonical JSON. Adding a
//! field to the type changes the JSON of every value: a message that was delivered by the old release is
//! a mismatch for the new one. So:
//!
//! * name the fields that matter (`fingerprint = (order.id, order.amount)`), and a type can grow;
//! * give a new field `#[serde(skip_serializing_if = "..")]`, so that old values keep their JSON;
//! * the *stored result* is read as the new type: add fields with `#[serde(default)]`. A result that
//!   cannot be read is an error, and the function does not run again.
//!
//! The order of a `HashSet` does not matter: equal sets have the same JSON.
//!
//! # Secrets
//!
//! Two steps, each of which may roll over the instances in any order, with requests and their duplicates
//! arriving at all of them:
//!
//! 1. Everywhere: `secret(new)` and `previous_secrets([old])`; for a first secret,
//!    `previously_without_secret()`. Each request now has a record under each secret, claimed oldest first,
//!    so that an instance which knows only one of them meets it there.
//! 2. When every record of before step 1 has expired (the longest TTL; for abandoned ones
//!    [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention), or resolve them): `secret(new)` alone.
//!
//! [`Attempt::derived_key`](crate::Attempt::derived_key) and the record key that handlers see are made
//! with the oldest configured secret: they change at step 2, and only for keys that begin after it.
//!
//! Never deploy `secret(new)` alone over `secret(old)`. Instances compare check values when they start and
//! log an error when they share no secret.
//!
//! # Times
//!
//! * **TTL**: counts from the completion. A shorter one holds for responses that are stored from then on.
//! * **Lease**: an attempt that runs keeps the lease that it was begun with.
//! * **Retention**: held by each record, and moved by each renewal.
//!
//! # Two releases at once
//!
//! A release of this crate reads the records of the one before it, and the one before reads its records or
//! says that it cannot: an error (503, logged), never an absent record. The schema of a SQL store has a
//! version; a release that needs another one says so when it connects.
//!
//! Roll back as you rolled out: what the newer release has stored is replayed by the older one.
//!
//! # Steps
//!
//! The label of a step names its result. A renamed label runs again in the attempt after a crash; a
//! reused label gives the old result to new code. Add steps at will, rename none while a crashed attempt
//! may be waiting.
