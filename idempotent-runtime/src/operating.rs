//! Running a service in production: what to watch, and what to do when a key is stuck. This module contains documentation
//! only.
//!
//! # The problem
//!
//! A process dies in the middle of a charge. Its key is *abandoned*: retries get 409 `outcome-unknown`, and that is right: whether
//! the charge took effect is unknown. But a client that gives up never asks again, and no error rate rises. An operator has to
//! be told, has to find the order, and has to decide.
//!
//! # Before the first payment
//!
//! 1. `idempotent doctor` (the crate `idempotent-cli`) reports problems with the server, its settings, the table or the secret
//!    that can lose records or stop the service, with a fix for each. It exits with 0, 1 (warnings) or 2 (errors).
//! 2. Give each operation a label that a person knows: `#[idempotent(label = order.number)]`.
//! 3. Set an [observer](crate::observer), so that abandoned keys are looked for and counted. **Without one (and without
//!    `abandoned_check_interval`) a crash leaves no line in the log** until its record is purged, only 409s:
//!    [`IdempotencyBuilder::observer`](crate::IdempotencyBuilder::observer). The feature `metrics` has one for the `metrics` facade;
//!    `metrics/alerts.yml` and `metrics/dashboard.json` in the repository are alert rules for Prometheus and a dashboard for Grafana.
//! 4. Call [`Idempotency::shutdown`](crate::Idempotency::shutdown) when the server has stopped, with a deadline that your
//!    orchestrator grants: what is not recorded by then is abandoned.
//! 5. Put a [`ForgottenRoutesLayer`](crate::testing_your_handlers) (feature `forgotten-routes`) around the router in staging.
//!
//! # What to watch
//!
//! | question | metric | log, and its level |
//! | --- | --- | --- |
//! | Is a payment undecided? | `idempotency_abandoned_records` > 0 | `a key is abandoned`, WARN, once for each record and process |
//! | Was one never decided? (Redis tells nothing) | `idempotency_purged_abandoned_total` | `purged an abandoned record`, ERROR |
//! | Is the store in trouble? | `idempotency_store_duration_seconds`, by call and result | `could not ...`, WARN; 503: ERROR |
//! | Are requests refused, or unprotected? | `idempotency_requests_total{outcome="store-unavailable"}`, `"degraded"` | ERROR |
//! | Did a handler run whose response is not stored yet? | `idempotency_pending_responses` > 0 | `could not store a response`, WARN |
//! | Does the store forget records? | `idempotency_claims_lost_total` | `lost the claim`, WARN |
//! | Are leases renewed in time? | `idempotency_lease_renewals_total{result="late"}` | `could not renew leases`, WARN |
//! | Do handlers pile up without clients? | `idempotency_background_handlers` | |
//! | Does PostgreSQL refuse what handlers do in `#[tx]`, or do they take too long? | `idempotency_requests_total{outcome="store-unavailable"}` | `a handler's transaction was rolled back`, ERROR |
//! | How many requests are retries? | `idempotency_requests_total{outcome="replayed"}` | `answered`, DEBUG |
//!
//! **How soon.** Each process looks for abandoned records every 5 s
//! ([`abandoned_check_interval`](crate::IdempotencyBuilder::abandoned_check_interval)), but spends at most a hundredth of its time on it: where a look
//! takes half a second, as on a Redis with many keys, the next is 50 s later. A crash is found when its lease has ended (30 s
//! by default) and a process looks; a process that starts looks at once. The gauge falls at the look after the decision. Each process logs each record
//! once. Clients learn of it sooner: `idempotency_requests_total{outcome="outcome-unknown"}` rises with the first retry.
//!
//! The outcomes are those of [`Outcome`](crate::observer::Outcome); each request has exactly one. No metric has a label
//! for a key, a scope or a record.
//!
//! **Spans.** The crate records four fields on the span that the request is handled in, where the application has declared them:
//! `idempotency.operation`, `idempotency.outcome`, `idempotency.record` (the first eight digits) and `idempotency.attempt`. With
//! tower-http's `TraceLayer`:
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
//! **Traces.** The `traceparent` of the attempt that was completed is kept in the record. The `answered` event of a replay has it as
//! `first_traceparent`, so that a retry leads to the trace of the request that ran.
//!
//! **Layers** of the application find a [`ProblemCode`](crate::ProblemCode) in the extensions of each problem, and an
//! [`Answered`](crate::Answered) in those of each answer if
//! [`answered_extension`](crate::IdempotencyBuilder::answered_extension) is set.
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
//! 4. **You do not know yet**: do nothing. The key stays refused for
//!    [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention) (30 days), and then an error is logged
//!    (not on Redis, where the server removes the record itself: watch the gauge there). Make it longer than your slowest
//!    reconciliation: a retry that comes after that time and before the sweep finds the key free and runs, and the
//!    record is then neither logged nor counted.
//!
//! **Where the tool looks.** `--store` (or `IDEMPOTENCY_URL`) names the database. `--table` (SQL), `--schema` (PostgreSQL) and
//! `--prefix` (Redis) name the records in it, where the service has chosen other ones. An empty table looks like a service without stuck keys, so the tool
//! tells where it has looked when it finds nothing.
//!
//! **Who may look.** `list`, `show` and `stats` need `SELECT` on the table, and on PostgreSQL `USAGE` on its schema. A decision needs all
//! rights of the service; `idempotent doctor` names what is missing. A decision has a name: `--by`, else `$USER`. Where that is not
//! set, as in a container or a scheduler, the tool asks for `--by`.
//!
//! **Two operators at once.** One decides; the other is told that an attempt is running, that the record has changed, or that there is no
//! such record, because a decision to retry has freed the key. Nothing was changed then.
//!
//! While a lease runs, a decision is refused: an attempt may be alive. A decision takes 2.5 s, in which an owner that is alive could still
//! renew its lease, and counts as an attempt: after it `show` says `attempt 2`, although the handler ran once. Who decided, when and why is kept in the record
//! ([`AuditLine`](crate::AuditLine)); `idempotent show` prints it. The page of `admin::router` (feature `admin`)
//! does the same, and so does [`Idempotency::resolve_as`](crate::Idempotency::resolve_as) in Rust. If a machine can look it
//! up, let a [recovery function](crate::Abandoned) decide instead.
//!
//! # A wrong decision
//!
//! A stored decision is final: clients get it from then on, and some have it already. So check the file first: it is replayed byte for
//! byte, and `idempotent show --reveal` prints what is stored. If it was wrong nevertheless:
//!
//! 1. **Do not `forget` the record.** Its key is free then, and the client's next retry charges again.
//! 2. **Tell the client**, out of band, what the truth is. It has the wrong response, or gets it by its next retry.
//! 3. **You stored a receipt, and it was not charged**: the client pays with a new key, as for a new intent.
//! 4. **You said retry, and it had been charged**: no record is left to take that back. While `show` finds none, ask the client not
//!    to retry; if a retry has run, refund one of the charges.
//!
//! The wrong response is replayed until its record expires (`show`: `expires`).
//!
//! # The store was unavailable
//!
//! Requests got 503 and did not run. Handlers that were running then have been answered; their responses are being stored
//! (`idempotency_pending_responses`), and **a process with pending responses should not be stopped**. The service works again within
//! 5 s of the store, without a restart. After a failover that lost records (`idempotency_claims_lost_total`), running claims are put
//! back by their owners; completed records that the replica lacked are gone, and their keys run again:
//! [`choosing_a_store`](crate::choosing_a_store) says which settings prevent that.
//!
//! # Clients without keys
//!
//! While some clients do not send keys yet, `required = false` lets their requests run, unprotected: a retry without a key runs again.
//! To finish the migration, count them: `idempotency_requests_total{outcome="unprotected"}` by operation. When it has stayed 0 for as
//! long as the rarest client needs to come by, remove `required = false`. From then on a request without a key is answered 400.
//!
//! # Size
//!
//! `list` and `stats` also show a record of the operation `idempotent: check values of secrets`, which lives for ten years: by it the
//! instances find out whether they share a secret.
//!
//! | store | a record with 200 bytes of body takes about | what removes it |
//! | --- | --- | --- |
//! | memory | 700 bytes of memory | the sweep, each [`purge_interval`](crate::IdempotencyBuilder::purge_interval) |
//! | Redis | 560 bytes of memory | the server, by itself |
//! | PostgreSQL | 1,000 bytes on disk, with its indexes | the sweep, and then autovacuum |
//! | SQLite | 490 bytes on disk | the sweep; the file does not shrink |
//! | MySQL | 880 bytes on disk | the sweep |
//!
//! Records = requests a second × TTL: 100 a second for 24 h are 8.6 million records, 9 GB on PostgreSQL. `idempotent stats` counts
//! them by operation and state. Each instance sweeps, 1,000 records a call; one that is enough can be left to do it
//! (`purge_interval(Duration::ZERO)` on the others, or `idempotent purge` by a scheduler).
//!
//! **Partitioning.** The primary key is a digest, so a table can be partitioned by hash of the key, with any number of partitions; the
//! statements stay the same. Do not partition by time: a unique key over all partitions is what makes a claim exclusive,
//! and a database has it only over the partitioning column. Where a table must stay small, shorten the TTL; where a response is large,
//! store a reference to it.
//!
//! **Pools and connections**: [`choosing_a_store`](crate::choosing_a_store#connections).
//!
//! # Several regions
//!
//! A claim is exclusive within one store that has one writer. So:
//!
//! * **One primary, read by all regions over the network**: all guarantees hold. A first request from another region pays two round
//!   trips to the primary; a hot replay none, by the replay cache.
//! * **A store for each region, and a client that stays in one**: the guarantees hold for each region. A client that is moved to another
//!   region while a key is alive runs again there: pin a key to its region (in the router, by tenant).
//! * **Two writable stores that replicate to each other** (active-active Redis, multi-primary MySQL, PostgreSQL with logical
//!   replication both ways): **two charges are possible**, because both accept the claim before they know of each other. Do not.
//! * **Failover to another region** loses what was not replicated yet, as any failover does: replicate synchronously, or accept it.
//!
//! # Rotating secrets, changing settings
//!
//! [`changing_a_service`](crate::changing_a_service): `previous_secrets`, TTLs, leases, operations and schemas while keys are alive.
