//! Which guarantee does my handler have? How to choose the right mode. This module contains documentation only.
//!
//! | what the handler changes | mode | after a crash | the effect happens |
//! | --- | --- | --- | --- |
//! | rows in one SQL database of your own | `#[tx]`, with the records in that database: [`Transactions`](crate::Transactions) | nothing was changed, and the retry runs | **exactly once** |
//! | an external service that accepts idempotency keys (a payment provider) | `on_abandoned = "retry"`, with [`Attempt::derived_key`](crate::Attempt::derived_key) as *its* key | the retry calls the service again, with the same key | **once at the service**, as long as it remembers the key |
//! | several of those, in sequence | the same, with each call in an [`Attempt::step`](crate::Attempt::step) | finished steps are not run again | as above, for each |
//! | something that can be looked up afterwards | a [recovery function](crate::Abandoned), `on_abandoned = path` | the function looks it up, then supplies the response or lets the handler run again | as reliably as the lookup |
//! | something that cannot be undone, repeated or looked up | the default, `on_abandoned = "reject"` | 409 `outcome-unknown`; an operator decides: [`Idempotency::inspect`](crate::Idempotency::inspect), [`resolve`](crate::Idempotency::resolve) | **at most once** |
//! | nothing that does harm if it happens twice | `on_abandoned = "retry"` | the retry runs | at least once |
//!
//! Without HTTP (a queue, a job, gRPC), [`Idempotency::execute`](crate::Idempotency::execute) and
//! `#[idempotent]` on a plain function provide every mode except the first.
//!
//! # What each mode relies on
//!
//! * **`#[tx]`** relies on the database's commit and nothing else: no lease, no clock, no fencing. Effects *elsewhere*
//!   are not part of the transaction: an email that the handler sends goes out even if the commit fails. Write a row
//!   that says "send this", and let a worker send it (an outbox). On MySQL, use `InnoDB` tables: a table of an engine
//!   without transactions is not part of the transaction either.
//! * **`reject`** relies on the store not losing records: see [`choosing_a_store`](crate::choosing_a_store).
//!   `#[tx]` and `reject` are the two modes in which nothing happens twice while the record lives.
//! * **`retry`** is at least once after a crash. No lease or fencing token changes that: a dead process may already
//!   have sent its request. The mode is safe if the *other side* knows the key. A second run happens only after a
//!   crash: an attempt whose process is alive keeps its claim, even if the store was unavailable for longer than its
//!   lease. Before another attempt takes over, the owner gets a grace period to renew its lease, which begins with a
//!   write that the store has accepted. A live process is taken over only if it is frozen, or cannot reach the store
//!   while others can, for its lease and the grace period.
//! * **A recovery function** relies on its look-up. It must only look, because several processes may call it for one
//!   key at the same time. Within one process, one call runs at a time, and other requests with the key are `in-flight`
//!   meanwhile. Give the look-up a timeout.
//! * **A step**'s result is stored after its effect. After a crash between the two, the step runs again, so a step with
//!   an external effect still needs a derived key. Steps belong in the handler, not in a body that it streams: when the
//!   body exceeds `max_response_bytes`, or has produced its announced length, the record is completed. A later step is
//!   refused ([`StepError::Lost`](crate::StepError::Lost)), and no retry runs it.
//!
//! # Both a database and a provider
//!
//! A handler charges by a provider and writes a row. Whichever comes first, a crash can come between the two. With
//! `#[tx]`, call the provider inside the transaction, with [`derived_key`](crate::Attempt::derived_key). After a crash
//! before the commit, the retry calls the provider again with the same key and learns of the earlier charge. The
//! transaction holds a connection for as long as the provider takes (on SQLite, the only one that can write). Without
//! `#[tx]`, and always on SQLite, make the charge one step and the write another.
//!
//! # Another protected service
//!
//! A handler that calls another protected service can get a [problem](crate::answers) that is not a result:
//! `in-flight`, `outcome-unknown`, `store-unavailable`, `shutting-down`, `overloaded`. If the handler returns that
//! problem as its own response, it is stored, and every retry gets it, even if the other service is done a second
//! later. Wrap the problem in a [`Release`](crate::Release) instead: nothing is stored, and the next retry calls the
//! other service again. This is safe if every attempt sends the same key
//! ([`derived_key`](crate::Attempt::derived_key)), and if everything that the handler does before the call may happen
//! twice or has a derived key too.
//!
//! The clients of this repository treat a stored response with one of these codes as undecided, and keep the key.
//!
//! # What no mode does
//!
//! * Two keys are two intents. A client that makes a new key for a retry is charged twice.
//! * A response is replayed for its TTL, counted from the completion. If a client retries after that, the handler runs
//!   again. `key_age = "ttl"` (recommended) refuses such a retry if its key is a UUIDv7, like those of the Rust client,
//!   or a ULID. Keys of other forms pass.
//! * A record says how the handler *responded*. If a handler responds before its work is done, the record does not show
//!   whether the work was done.
