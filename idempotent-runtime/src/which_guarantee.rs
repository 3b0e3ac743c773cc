//! Which guarantee do I have? From your situation to the right mode, on one screen. This module holds
//! documentation only.
//!
//! | what the handler changes | mode | after a crash | it happens |
//! | --- | --- | --- | --- |
//! | rows in one SQL database of yours | `#[tx]`, records in that database: [`Transactions`](crate::Transactions) | nothing was changed, and the retry runs | **exactly once** |
//! | an external service that takes idempotency keys (a payment provider) | `on_abandoned = "retry"`, and [`Attempt::derived_key`](crate::Attempt::derived_key) as *its* key | the retry asks again, with the same key | **once there**, while it remembers the key |
//! | several of those, one after the other | the same, each call in an [`Attempt::step`](crate::Attempt::step) | finished steps are not run again | each as above |
//! | something that can be looked up afterwards | a [recovery function](crate::Abandoned), `on_abandoned = path` | it looks, and answers or runs again | as well as it can look |
//! | something that can neither be taken back, nor repeated, nor looked up | the default, `on_abandoned = "reject"` | 409 `outcome-unknown`; an operator decides: [`Idempotency::inspect`](crate::Idempotency::inspect), [`resolve`](crate::Idempotency::resolve) | **at most once** |
//! | nothing that matters twice | `on_abandoned = "retry"` | the retry runs | at least once |
//!
//! Where there is no HTTP (a queue, a job, gRPC), [`Idempotency::execute`](crate::Idempotency::execute) and
//! `#[idempotent]` on a plain function give all of that but the first.
//!
//! # What each rests on
//!
//! * **`#[tx]`** rests on the database's commit, and on nothing else: no lease, no clock, no fencing. What
//!   the handler writes *elsewhere* is not part of it: a mail that it sends goes out even if the commit
//!   fails. Write a row that says "send this", and let a worker send it (an outbox).
//! * **`reject`** rests on the store not forgetting: see [`choosing_a_store`](crate::choosing_a_store).
//!   Together with `#[tx]` these are the two modes in which nothing ever happens twice.
//! * **`retry`** is at least once after a crash, and no lease or fencing token changes that: a dead process
//!   may have sent its request already. What makes it right is that the *other side* knows the key. It is
//!   only after a crash: an attempt whose process is alive keeps its claim, also when the store was out for
//!   longer than its lease. Before another attempt takes over, the owner gets a grace period to renew its
//!   lease, which begins with a write that the store has taken. Only a process that is frozen, or cannot
//!   reach the store while others can, for its lease and that period, is taken over alive.
//! * **A step** is kept after its effect. A crash between the two runs that one step again, so that a step
//!   whose effect is external wants a derived key all the same.
//!
//! # Both a database and a provider
//!
//! Charge first and write afterwards, or the other way round: either can be cut off in the middle. With
//! `#[tx]` the provider is called inside the transaction, with
//! [`derived_key`](crate::Attempt::derived_key), and a crash before the commit means that the retry calls it
//! again with the same key and is told of the charge that was made. It holds a connection for as long as
//! the provider takes. Without `#[tx]`, put the charge and the write into a step each.
//!
//! # What none of them does
//!
//! * Two keys are two intents. A client that makes a new key for a retry is charged twice.
//! * A response is replayed for its TTL, counted from when it was given. A client that retries later than
//!   that runs again.
//! * A record says what was *answered*. A handler that answers before its work is done has not done it.
