//! What a client can receive, and what it does next. This module contains documentation only.
//!
//! A request that is accepted gets its handler's response, and a retry of it gets the stored response with
//! the header `Idempotent-Replayed: true`. A request that is not accepted gets a problem
//! (RFC 9457) whose `code` is one of the following; in Rust it is a [`ProblemCode`]. Unless a section
//! says otherwise, **nothing was run** for such a request. By choice, every answer says in `Idempotency-Status` which of these it
//! is, and how long the key lives ([`IdempotencyBuilder::status_header`](crate::IdempotencyBuilder::status_header)).
//!
//! # The rule for clients
//!
//! Make the key once for each intent, before the first try, and keep it over retries, page reloads
//! and restarts. Never make a new key for the same intent. Wait between tries: for the time in
//! `Retry-After` if there is one, otherwise 1 s, 2 s, 4 s and so on, with jitter. Stop when
//! the key's lifetime is over (24 h unless the service says otherwise): after that the operation would run
//! again.
//!
//! | code | status | retry with the same key? |
//! | --- | --- | --- |
//! | [`missing-key`](#missing-key) | 400 | with a key |
//! | [`invalid-key`](#invalid-key) | 400 | with a valid key |
//! | [`key-expired`](#key-expired) | 400 | no: check the resource first |
//! | [`key-reused`](#key-reused) | 422 | no |
//! | [`in-flight`](#in-flight) | 409 | after `Retry-After` |
//! | [`outcome-unknown`](#outcome-unknown) | 409 | it does no harm: check the resource first |
//! | [`response-not-retained`](#response-not-retained) | the stored status | no need |
//! | [`store-unavailable`](#store-unavailable) | 503 | after `Retry-After` |
//! | [`shutting-down`](#shutting-down) | 503 | after `Retry-After` |
//! | [`overloaded`](#overloaded) | 503 | after `Retry-After` |
//! | [`handler-failed`](#handler-failed) | 500 | yes; if it was stored, the response is the same |
//! | [`unusable-input`](#unusable-input) | 500 | no: a bug in the service |
//! | [`unprotected-route`](#unprotected-route) | 501 | no: it would run again |
//!
//! ## missing-key
//!
//! The operation requires a key and the request has none. Send one in the header that the problem's
//! `detail` names. (An operation with `required = false` runs without a key, unprotected.)
//!
//! ## invalid-key
//!
//! A key in a header is 1 to 255 bytes long. It is sent as a quoted string (`"8e03978e-40d5-43dd-bc93"`, RFC 9651,
//! section 3.3.3: printable ASCII, with `\"` and `\\` as the only escapes) or bare (visible ASCII
//! without quotes, commas and semicolons), and only once. A service can insist on the quoted form, and with
//! `key_age = "ttl"` it refuses a UUIDv7 or ULID whose time is ahead of the service's clock, by more than 5 minutes (or by more than a tenth of the
//! TTL, if that is less).
//!
//! ## key-expired
//!
//! The key is a UUIDv7 or a ULID, the time in it is almost as long ago as the operation's TTL or longer, and there is no record of it. If there was a request with this key, its record is gone, and the
//! operation would run again. Nothing was done this time. Check the resource: if the effect is there, you are
//! done; if not, it is a new intent with a **new** key. Only operations with `key_age = "ttl"` answer so.
//!
//! ## key-reused
//!
//! The key belongs to another request: one with another path, query, media type or body, or with another
//! value of a header that the service treats as part of the request. Either the client
//! has changed its request between two tries, or it has used one key for two requests. The first request and
//! its response are unchanged. (A client that serializes its JSON anew for each try, with other spaces or in another order,
//! needs an operation with `fingerprint = json`.)
//!
//! ## in-flight
//!
//! The first request with this key is still running, or it is not yet known whether its transaction was
//! committed, or the service is finding out what an interrupted one has done. `Retry-After` is one second unless the service says otherwise, and never more than the time
//! left of the first request's lease (rounded up to whole seconds): if its process has crashed, that is
//! known by then.
//!
//! ## outcome-unknown
//!
//! The first request with this key was interrupted: its process died, is frozen, or did not reach the store for longer
//! than its lease. Whether it took effect is unknown, so it is neither repeated nor answered. Check the
//! resource (was the payment made?): if the effect is there, you are done.
//!
//! If it is not, it may still come. A process that is alive goes on as soon as it can, and then the **same** key is answered
//! with its response. The same is true after an operator's decision. Asking again with the same key does no harm, so that a client can do so
//! from time to time, or at its user's request. Use a **new** key only when you know that nothing will happen any more: the service
//! says so, or has been restarted since. The operation's settings can resolve this state automatically, see
//! [`OnAbandoned`](crate::OnAbandoned).
//!
//! ## response-not-retained
//!
//! The request was carried out, with this status and these headers. Its body was larger than the
//! operation stores (`max_response_bytes`), or its stream was interrupted or ended before its announced length, so it cannot
//! be replayed. (With more than 20,000 headers, neither they nor the body are.) The response is marked as a replay. Request
//! the resource instead.
//!
//! ## store-unavailable
//!
//! The records cannot be read or written at the moment, so the service cannot know whether this request is
//! a retry. Try again with the same key.
//!
//! With `#[tx]` it also stands for a transaction that was rolled back: of two in each other's way the database ends one; the handler took
//! longer than `transaction_timeout`; or, on PostgreSQL, it answered with a 5xx after the database had refused one of its
//! statements, which aborts the transaction. The handler did run, and nothing of it is left in the database. On PostgreSQL a statement
//! that is wrong each time is answered so each time: answer such an error with a 4xx, which is stored, and log it. The crate
//! never sees its text.
//!
//! ## shutting-down
//!
//! This instance accepts no new work. Another one will.
//!
//! ## overloaded
//!
//! This instance is still busy with requests whose clients have disconnected: each runs to its end,
//! and the service bounds how many there may be. Another instance may have room, and so may this one after
//! the time in `Retry-After`.
//!
//! ## handler-failed
//!
//! The handler panicked, or the body of its response was interrupted. It **was** run and may have taken
//! effect, which is why this response is stored like any other 5xx. (With `#[tx]` what it wrote by its transaction was undone; what
//! it did elsewhere was not.)
//!
//! It also stands for a [step](crate::Attempt::step) that could not begin, for example because the store was unavailable. That
//! is not stored, so it is not marked as a replay: where the operation retries after a crash, a retry with the same key goes on behind
//! the steps that are finished; where it does not, the retry is answered [`outcome-unknown`](#outcome-unknown).
//!
//! ## unusable-input
//!
//! What identifies the request (its scope, key or fingerprint) could not be serialized, or its label has more than
//! 64 bytes. The service's log has the cause.
//!
//! ## unprotected-route
//!
//! The request **was carried out**, and its key was ignored: the operation is not protected. Only a service with
//! `ForgottenRoutesLayer::refuse` (cargo feature `forgotten-routes`) answers so, in tests and in staging. Do not send the request
//! again: report it to the service.

#[cfg(doc)]
use crate::ProblemCode;
