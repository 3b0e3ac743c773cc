//! What a client can receive, and what it does next. This module contains documentation only.
//!
//! An accepted request gets its handler's response. A retry gets the stored response, with the header
//! `Idempotent-Replayed: true`. A request that is not accepted gets a problem (RFC 9457) with one of the codes below
//! (in Rust, a [`ProblemCode`]). Unless a section says otherwise, **nothing was run** for such a request. With
//! [`IdempotencyBuilder::status_header`](crate::IdempotencyBuilder::status_header), every answer says in
//! `Idempotency-Status` which case it is, and how long the key lives.
//!
//! # The rule for clients
//!
//! Make one key for each intent, before the first try, and keep it over retries, page reloads and restarts. Never make
//! a new key for the same intent. Between tries, wait for the time in `Retry-After` if there is one, otherwise 1 s, 2
//! s, 4 s and so on, with jitter. Stop when the key's lifetime is over (24 h unless the service says otherwise): after
//! that the operation would run again.
//!
//! | code | status | retry with the same key? |
//! | --- | --- | --- |
//! | [`missing-key`](#missing-key) | 400 | with a key |
//! | [`invalid-key`](#invalid-key) | 400 | with a valid key |
//! | [`key-expired`](#key-expired) | 400 | no: check the resource first |
//! | [`key-reused`](#key-reused) | 422 | no |
//! | [`in-flight`](#in-flight) | 409 | after `Retry-After` |
//! | [`outcome-unknown`](#outcome-unknown) | 409 | allowed, but check the resource first |
//! | [`response-not-retained`](#response-not-retained) | the stored status | not needed |
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
//! section 3.3.3: printable ASCII, with `\"` and `\\` as the only escapes) or bare (visible ASCII without quotes,
//! commas and semicolons), and only once. A service can require the quoted form. With `key_age = "ttl"` it also refuses
//! a UUIDv7 or ULID whose time is ahead of the service's clock by more than 5 minutes (or a tenth of the TTL, if that
//! is less).
//!
//! ## key-expired
//!
//! The key is a UUIDv7 or ULID, has no record, and is older than the operation's TTL (minus a margin for the clocks).
//! If there was an earlier request with this key, its record has expired, and the operation would run again. Nothing
//! was done this time. Check the resource: if the effect is there, you are done; if not, make a **new** key. Only
//! operations with `key_age = "ttl"` give this answer.
//!
//! ## key-reused
//!
//! The key belongs to another request: one with another path, query, media type or body, or with another value of a
//! header that the service treats as part of the request. Either the client has changed its request between two tries,
//! or it has used one key for two requests. The first request and its response are unchanged. (If a client serializes
//! its JSON anew for each try, with other spaces or in another order, the operation needs `fingerprint = json`.)
//!
//! ## in-flight
//!
//! The first request with this key is still running, or it is not yet known whether its transaction was committed, or
//! the service is finding out what an interrupted request has done. Retry with the same key. `Retry-After` is one
//! second unless the service says otherwise, and never more than the rest of the first request's lease (rounded up to
//! whole seconds): by then it is known whether its process has crashed.
//!
//! ## outcome-unknown
//!
//! The first request with this key was interrupted: its process died, is frozen, or did not reach the store for longer
//! than its lease. It is unknown whether the request took effect, so it is neither repeated nor answered. Check the
//! resource (was the payment made?): if the effect is there, you are done.
//!
//! If the effect is not there, it may still come: a process that is alive continues as soon as it can, and a retry with
//! the **same** key then gets its response. A retry also gets a response after an operator has decided. Retrying with
//! the same key does no harm, so a client can do so from time to time, or when its user asks. Use a **new** key only
//! when you know that the first request will have no effect any more: the service says so, or has been restarted since.
//! The service can resolve this state automatically, see [`OnAbandoned`](crate::OnAbandoned).
//!
//! ## response-not-retained
//!
//! The request was carried out, with this status and these headers. The body cannot be replayed: it was larger than the
//! operation stores (`max_response_bytes`), or its stream was interrupted or ended before its announced length. (If
//! there were more than 20,000 headers, they cannot be replayed either.) The response is marked as a replay. Request
//! the resource instead.
//!
//! ## store-unavailable
//!
//! The records cannot be read or written at the moment, so the service cannot know whether this request is
//! a retry. Try again with the same key.
//!
//! With `#[tx]`, this code can also mean that the transaction was rolled back: the database ended it because of a
//! conflict with another one; the handler took longer than `transaction_timeout`; or, on PostgreSQL, the database
//! refused a statement, which aborts the transaction, and the handler answered with a 5xx. The handler did run, but
//! left nothing in the database. On PostgreSQL, a statement that always fails gets this answer on every retry: let the
//! handler log such an error, and answer with a 4xx, which is stored. The crate never sees the text of the error.
//!
//! ## shutting-down
//!
//! This instance accepts no new work. Retry with the same key: another instance will accept it.
//!
//! ## overloaded
//!
//! This instance is still busy with requests whose clients have disconnected: each runs to its end, and the service
//! limits their number. Retry with the same key: another instance may have room, or this one after the time in
//! `Retry-After`.
//!
//! ## handler-failed
//!
//! The handler panicked, or the body of its response was interrupted. It **was** run and may have taken effect, which
//! is why this response is stored like any other 5xx. (With `#[tx]`, its writes in the transaction were rolled back;
//! its effects elsewhere were not.)
//!
//! This code is also the answer if a [step](crate::Attempt::step) could not begin, for example because the store was
//! unavailable. That answer is not stored, so it is not marked as a replay. If the operation retries after a crash, a
//! retry with the same key continues after the finished steps; otherwise the retry gets
//! [`outcome-unknown`](#outcome-unknown).
//!
//! ## unusable-input
//!
//! The scope, key or fingerprint of the request could not be serialized, or its label has more than 64 bytes. This is a
//! bug in the service; its log has the cause.
//!
//! ## unprotected-route
//!
//! The request **was carried out**, and its key was ignored: the operation is not protected. Only a service with
//! `ForgottenRoutesLayer::refuse` (cargo feature `forgotten-routes`) gives this answer, in tests and in staging. Do not
//! send the request again; report it to the service.

#[cfg(doc)]
use crate::ProblemCode;
