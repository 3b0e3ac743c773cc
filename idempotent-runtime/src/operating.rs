//! Running a service in production: what to watch, and what to do when a key is abandoned. This module contains
//! documentation only.
//!
//! # The problem
//!
//! A process dies in the middle of a charge. Its key is *abandoned*: retries get 409 `outcome-unknown`. That is right,
//! because it is unknown whether the charge took effect. But if the client gives up, no error rate rises. An operator
//! must be alerted, find the order, and decide.
//!
//! # Before the first payment
//!
//! 1. `idempotent doctor` (the crate `idempotent-cli`) reports problems with the server, its settings, the table or the
//!    secret that can lose records or stop the service, with a fix for each. Its exit code is 0, 1 (warnings) or 2
//!    (errors).
//! 2. Give each operation a label that a person knows: `#[idempotent(label = order.number)]`.
//! 3. Set an [observer](crate::IdempotencyBuilder::observer), so that each process looks for abandoned keys, logs them
//!    and counts them. **Without an observer (or `abandoned_check_interval`), a crash leaves no line in the log** until
//!    its record is purged, only 409s. The feature `metrics` has an [observer for the `metrics`
//!    facade](crate::metrics), with the list of all metrics. In the repository, `metrics/alerts.yml` has alert rules
//!    for Prometheus, and `metrics/dashboard.json` is a dashboard for Grafana.
//! 4. Call [`Idempotency::shutdown`](crate::Idempotency::shutdown) when the server has stopped, with a deadline within
//!    your orchestrator's grace period: keys whose responses are not recorded by then become abandoned.
//! 5. In staging, put a [`ForgottenRoutesLayer`](crate::ForgottenRoutesLayer) (feature `forgotten-routes`) around the
//!    router: it finds unprotected handlers.
//!
//! # What to watch
//!
//! | question | metric | log, and its level |
//! | --- | --- | --- |
//! | Is a payment undecided? | `idempotency_abandoned_records` > 0 | `a key is abandoned`, WARN, once for each record and process |
//! | Did one expire undecided? (not on Redis) | `idempotency_purged_abandoned_total` | `purged an abandoned record`, ERROR |
//! | Is the store in trouble? | `idempotency_store_duration_seconds`, by call and result | `could not ...`, WARN; 503: ERROR |
//! | Are requests refused, or unprotected? | `idempotency_requests_total{outcome="store-unavailable"}`, `"degraded"` | ERROR |
//! | Did a handler run whose response is not stored yet? | `idempotency_pending_responses` > 0 | `could not store a response`, WARN |
//! | Does the store forget records? | `idempotency_claims_lost_total` | `lost the claim`, WARN |
//! | Are leases renewed in time? | `idempotency_lease_renewals_total{result="late"}` | `could not renew leases`, WARN |
//! | Do handlers pile up without clients? | `idempotency_background_handlers` | |
//! | Does PostgreSQL refuse statements of `#[tx]` handlers, or do the handlers take too long? | `idempotency_requests_total{outcome="store-unavailable"}` | `a handler's transaction was rolled back`, ERROR |
//! | How many requests are retries? | `idempotency_requests_total{outcome="replayed"}` | `answered`, DEBUG |
//!
//! **How soon.** Each process looks for abandoned records every 5 s
//! ([`abandoned_check_interval`](crate::IdempotencyBuilder::abandoned_check_interval)), but spends at most a hundredth
//! of its time on this: if a look takes half a second, as on a Redis with many keys, the next one follows 50 s later. A
//! crash is found by the first look after its lease has ended (30 s by default); a process also looks when it starts.
//! The gauge falls at the first look after the decision. Each process logs each record once.
//! `idempotency_requests_total{outcome="outcome-unknown"}` may rise earlier, with the client's first retry.
//!
//! [`Outcome`](crate::observer::Outcome) lists the outcomes; each request has exactly one. No metric has a label for a
//! key, a scope or a record.
//!
//! **Spans.** The crate records four fields on the span in which the request is handled, if the application has
//! declared them: `idempotency.operation`, `idempotency.outcome`, `idempotency.record` (the first eight digits) and
//! `idempotency.attempt`. With tower-http's `TraceLayer`:
//!
//! ```
//! use axum::extract::Request;
//! use tracing::field::Empty;
//!
//! fn span(request: &Request) -> tracing::Span {
//!     tracing::info_span!("request", method = %request.method(),
//!         idempotency.operation = Empty, idempotency.outcome = Empty,
//!         idempotency.record = Empty, idempotency.attempt = Empty)
//! }
//! // TraceLayer::new_for_http().make_span_with(span)
//! # drop(span);
//! ```
//!
//! **Traces.** The record stores the `traceparent` of the request that ran. The `answered` event of a replay has it as
//! `first_traceparent`, so you can get from a retry to the trace of that request.
//!
//! **Layers.** Each problem has a [`ProblemCode`](crate::ProblemCode) in its response extensions. Each answer has an
//! [`Answered`](crate::Answered) there if you set
//! [`answered_extension`](crate::IdempotencyBuilder::answered_extension).
//!
//! # A key is abandoned

//!
//! ```text
//! $ idempotent list --state abandoned
//! STATE      ATTEMPT  AGE     EXPIRES  RECORD                                                            LABEL             OPERATION
//! abandoned  1        4m10s   29d23h   07250b21bbe85794f1ae163e824a6017f0b469b7dd2709dbd3f7ddddc1f2cc9a  order-4711        payments.create
//! ```
//!
//! 1. **Look** whether the effect happened: at the provider, by the order number or the
//!    [derived key](crate::Attempt::derived_key); `idempotent show` lists the steps that were finished.
//! 2. **It happened**: store the response that the client should get. Any later request with this key gets it.
//!
//!    ```text
//!    $ idempotent resolve --label order-4711 --replay receipt.http --reason "the bank's statement says: paid"
//!    resolved: requests with this key get this response for at least 1d
//!    decided by anna, 2026-05-04T09:30:00Z: the bank's statement says: paid
//!    ```
//! 3. **It did not happen**: `idempotent resolve --label order-4711 --retry --reason "not on the statement"`. The key is free.
//! 4. **You do not know yet**: do nothing. Requests with the key are refused for
//!    [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention) (30 days); then the record is purged and
//!    an error is logged (not on Redis, where the server removes the record itself: watch the gauge there). Make the
//!    retention longer than your slowest reconciliation: after it a retry runs. If the retry arrives before the purge,
//!    the expired record is neither logged nor counted.
//!
//! **Where the tool looks.** `--store` (or `IDEMPOTENCY_URL`) names the database. `--table` (SQL), `--schema`
//! (PostgreSQL) and `--prefix` (Redis) name the place of the records, if the service does not use the default. An empty
//! table looks like a service without abandoned keys, so the tool prints where it has looked if it finds nothing.
//!
//! **Who may look.** `list`, `show` and `stats` need `SELECT` on the table, and on PostgreSQL `USAGE` on its schema. A
//! decision needs all rights of the service; `idempotent doctor` names what is missing. A decision is recorded with a
//! name: `--by`, else `$USER`. If neither is set, as in a container or a scheduler, the tool reports an error.
//!
//! **Two operators at once.** One decides. The other is told that an attempt is running, that the record has changed,
//! or that there is no such record (after a decision to retry); the second decision changes nothing.
//!
//! While a lease runs, a decision is refused, because an attempt may be alive. A decision takes 2.5 s, in which an
//! owner that is alive can still renew its lease. It counts as an attempt: afterwards `show` says `attempt 2`, although
//! the handler ran once. If a response was stored, the record also stores who decided, when and why
//! ([`AuditLine`](crate::AuditLine)); `idempotent show` prints it. You can also decide on the page of `admin::router`
//! (feature `admin`), or in Rust with [`Idempotency::resolve_as`](crate::Idempotency::resolve_as). If a program can
//! look up the effect, let a [recovery function](crate::Abandoned) decide instead.
//!
//! # A wrong decision
//!
//! A stored response is final: clients get it from then on, and some have it already. So check the file before you
//! store it: it is replayed byte for byte. `idempotent show --reveal` prints the stored response. If the decision was
//! wrong nevertheless:
//!
//! 1. **Do not `forget` the record.** Its key is free then, and the client's next retry charges again.
//! 2. **Tell the client** the truth by another channel. It has the wrong response, or gets it with its next retry.
//! 3. **You stored a receipt, but the payment was not charged**: the client pays with a new key, as for a new intent.
//! 4. **You said retry, but the payment had been charged**: you cannot take that back, as no record is left. While
//!    `show` finds no record, ask the client not to retry. If a retry has run, refund one of the charges.
//!
//! The wrong response is replayed until its record expires (`show`: `expires`).
//!
//! # The store was unavailable
//!
//! New requests got 503 and did not run. Clients of handlers that were already running got their responses; these are
//! stored as soon as the store accepts them (`idempotency_pending_responses`). **Do not stop a process with pending
//! responses.** The service works again within 5 s of the store's recovery, without a restart. After a failover that
//! lost records (`idempotency_claims_lost_total`), the owners of running claims put them back. Completed records that
//! the replica lacked are gone, and their keys run again: [`choosing_a_store`](crate::choosing_a_store) says which
//! settings prevent that.
//!
//! # Clients without keys
//!
//! While some clients do not send keys yet, `required = false` lets their requests run, unprotected: a retry without a
//! key runs again. To finish the migration, watch `idempotency_requests_total{outcome="unprotected"}` by operation.
//! When it has stayed at 0 for long enough that every client has called, remove `required = false`. From then on a
//! request without a key gets 400.
//!
//! # Size
//!
//! `list` and `stats` also show a record of the operation `idempotent: check values of secrets`, which lives for ten
//! years: the instances use it to check that they share a secret.
//!
//! | store | a record with 200 bytes of body takes about | what removes it |
//! | --- | --- | --- |
//! | memory | 700 bytes of memory | the purge, at each [`purge_interval`](crate::IdempotencyBuilder::purge_interval) |
//! | Redis | 560 bytes of memory | the server, by itself |
//! | PostgreSQL | 1,000 bytes on disk, with its indexes | the purge, and then autovacuum |
//! | SQLite | 490 bytes on disk | the purge; the file does not shrink |
//! | MySQL | 880 bytes on disk | the purge |
//!
//! Records = requests a second × TTL: 100 a second for 24 h are 8.6 million records, 9 GB on PostgreSQL. `idempotent
//! stats` counts them by operation and state. Each instance purges, 1,000 records per call. If one instance is enough,
//! set `purge_interval(Duration::ZERO)` on the others, or on all and run `idempotent purge` by a scheduler.
//!
//! **Partitioning.** The primary key is a digest, so a table can be partitioned by hash of the key, with any number of
//! partitions; the statements stay the same. Do not partition by time: a claim is exclusive because of a unique key
//! over all partitions, and such a key must contain the partitioning column. If the table must stay small, shorten the
//! TTL; if responses are large, return references to them.
//!
//! **Pools and connections**: [`choosing_a_store`](crate::choosing_a_store#connections).
//!
//! # Several regions
//!
//! A claim is exclusive within one store with one writable primary. So:
//!
//! * **One primary, read by all regions over the network**: all guarantees hold. A first request from another region
//!   costs two round trips to the primary; a hot replay costs none, thanks to the replay cache.
//! * **A store for each region, and a client that stays in one**: the guarantees hold for each region. A client that is moved to another
//!   region while a key is alive runs again there: pin a key to its region (in the router, by tenant).
//! * **Two writable stores that replicate to each other** (active-active Redis, multi-primary MySQL, PostgreSQL with
//!   logical replication both ways): **two charges are possible**, because both accept the claim before they know of
//!   each other. Do not do this.
//! * **Failover to another region** loses what was not replicated yet, as any failover does: replicate synchronously, or accept it.
//!
//! # Rotating secrets, changing settings
//!
//! [`changing_a_service`](crate::changing_a_service) says how to change secrets, TTLs, leases, operations and schemas
//! while keys are alive.
