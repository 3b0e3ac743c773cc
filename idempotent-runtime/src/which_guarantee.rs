//! Which guarantee does my handler have? From your situation to the right mode, on one page. This module
//! contains documentation only.
//!
//! | what the handler changes | mode | after a crash | the effect happens |
//! | --- | --- | --- | --- |
//! | rows in one SQL database of your own | `#[tx]`, with the records in that database: [`Transactions`](crate::Transactions) | nothing was changed, and the retry runs | **exactly once** |
//! | an external service that accepts idempotency keys (a payment provider) | `on_abandoned = "retry"`, with [`Attempt::derived_key`](crate::Attempt::derived_key) as *its* key | the retry calls the service again, with the same key | **once at the service**, as long as it remembers the key |
//! | several of those, in sequence | the same, with each call in an [`Attempt::step`](crate::Attempt::step) | finished steps are not run again | as above, for each |
//! | something that can be looked up afterwards | a [recovery function](crate::Abandoned), `on_abandoned = path` | the function looks it up, then supplies the response or lets the handler run again | as reliably as the lookup |
//! | something that cannot be undone, repeated or looked up | the default, `on_abandoned = "reject"` | 409 `outcome-unknown`; an operator decides: [`Idempotency::inspect`](crate::Idempotency::inspect), [`resolve`](crate::Idempotency::resolve) | **at most once** |
//! | nothing that does harm when it happens twice | `on_abandoned = "retry"` | the retry runs | at least once |
//!
//! Without HTTP (a queue, a job, gRPC), [`Idempotency::execute`](crate::Idempotency::execute) and
//! `#[idempotent]` on a plain function provide every mode except the first.
//!
//! # What each mode relies on
//!
//! * **`#[tx]`** relies on the database's commit and nothing else: no lease, no clock, no fencing. What
//!   the handler writes *elsewhere* is not part of the transaction: an email that it sends goes out even if
//!   the commit fails. Write a row that says "send this", and let a worker send it (an outbox).
//!   On MySQL it is the commit of `InnoDB`: tables of an engine without transactions are elsewhere too.
//! * **`reject`** relies on the store not losing records: see [`choosing_a_store`](crate::choosing_a_store).
//!   `#[tx]` and `reject` are the two modes in which nothing happens twice while the record lives.
//! * **`retry`** is at least once after a crash. No lease or fencing token changes that: a dead process
//!   may already have sent its request. It is safe when the *other side* knows the key. A second run happens
//!   only after a crash: an attempt whose process is alive keeps its claim, even if the store was unavailable
//!   for longer than its lease. Before another attempt takes over, the owner gets a grace period in which to
//!   renew its lease. The grace period begins with a write that the store has accepted. A live process is
//!   taken over only if, for its lease and the grace period, it is frozen or cannot reach the store while
//!   others can.
//! * **A recovery function** relies on what it looks up. It must only look, because several processes may ask it about one key at once;
//!   one process asks once at a time, and other requests with the key are `in-flight` there meanwhile. Give it a timeout.
//! * **A step**'s result is stored after its effect. A crash between the two runs that one step again, so
//!   a step with an external effect still needs a derived key. Steps belong in the handler and not in a body that it streams: when
//!   the body is over `max_response_bytes`, or has produced the length that it announced, the record is completed and says that the
//!   request was carried out. A later step is refused ([`StepError::Lost`](crate::StepError::Lost)), and no retry runs it.
//!
//! # Both a database and a provider
//!
//! Whether the charge or the write comes first, a crash can come between the two. With `#[tx]`, the handler
//! calls the provider inside the transaction, with [`derived_key`](crate::Attempt::derived_key). After a crash
//! before the commit, the retry calls the provider again with the same key and learns of the charge that was
//! made. The transaction holds a connection for as long as the provider takes, on SQLite the only one that writes. Without
//! `#[tx]`, and always on SQLite, make the charge and the write a step each.
//!
//! # Another protected service
//!
//! A handler that calls a protected service can get a [problem](crate::answers) that is about that call and not about the
//! result: `in-flight`, `outcome-unknown`, `store-unavailable`, `shutting-down`, `overloaded`. If it answers with that as it
//! is, the problem is stored, and every retry gets it, although the other service may be done a second later. Answer with it
//! in a [`Release`](crate::Release): nothing is stored, and the next retry calls the other service again. Two things make this
//! safe: every attempt sends the same key ([`derived_key`](crate::Attempt::derived_key)), and what the handler does
//! before the call may happen twice, or has a derived key as well.
//!
//! The clients of this repository take a stored response with one of these codes for undecided, and keep the key.
//!
//! # What no mode does
//!
//! * Two keys are two intents. A client that makes a new key for a retry is charged twice.
//! * A response is replayed for its TTL, counted from when it was given. If a client retries after
//!   that, the handler runs again. `key_age = "ttl"` refuses such a retry if its key is a UUIDv7 or ULID, as the keys of the Rust
//!   client are. It is recommended, and costs nothing for other keys: they pass.
//! * A record says what was *answered*. If a handler responds before its work is done, the record does not
//!   show whether the work was done.
