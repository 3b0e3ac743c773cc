//! Which store, with which settings, and what each store can lose. This module contains documentation
//! only.
//!
//! # Why it matters
//!
//! A record is what stands between a retry and a second charge. If a store loses a record, the next request
//! with that key runs again, and no one notices until a customer does. The question is therefore not how
//! fast a store is, but what has to happen for it to lose a record.
//!
//! # Choose
//!
//! * **The effect is a row in your own SQL database**: keep the records in that database.
//!   They share its durability, its backups and its failover, and there is nothing else to operate.
//! * **Several instances, effects elsewhere** (a payment provider, a queue): PostgreSQL or MySQL if
//!   losing a record costs money; Redis if the effect is itself idempotent, or an occasional second
//!   run can be corrected.
//! * **One machine**: SQLite. Durable, no server.
//! * **One process, and a restart may lose the records**: memory. For development, tests, and operations
//!   whose keys matter for seconds.
//!
//! # What survives what
//!
//! "Kept" covers every acknowledged record. If a record is lost, the next request with its key runs again.
//!
//! | store and setting | process crash | power loss at the store | failover | eviction |
//! | --- | --- | --- | --- | --- |
//! | memory | **lost** | **lost** | - | never: when full, 503 |
//! | Redis, no persistence | kept | **lost** | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | Redis, `appendfsync everysec` | kept | **the last second or two are lost**, while its disk is slow also by a crash of Redis alone | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | Redis, `appendfsync always` | kept | kept | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | PostgreSQL, defaults | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | PostgreSQL, synchronous standby | kept | kept | kept | never |
//! | PostgreSQL, `synchronous_commit = off` | kept | **the last fraction of a second is lost** | as above | never |
//! | MySQL, `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | MySQL, the same, with semi-synchronous replication that never falls back | kept | kept | kept | never |
//! | SQLite (`synchronous = FULL`, which the store sets) | kept | kept, if the disk flushes when told to | - | never |
//!
//! "Process crash" is a crash of your application. On every store, what was *running* at that moment is
//! abandoned: see [`OnAbandoned`](crate::OnAbandoned).
//!
//! **A clock that is set.** Leases and TTLs end by the clock of the store's server (SQLite: of the machine). Correcting it slowly
//! (`chronyd` and `ntpd` slew it) harms nothing. Set ahead by more than what is left of a TTL, it ends that record, and a retry runs; so
//! does what was completed while the clock was behind by more than the TTL, as soon as the clock is right again. A lease that it ends is
//! renewed at once where the request's process is alive. Set back, it keeps records for as much longer, and the keys of crashed requests
//! `in-flight` for as much longer. So synchronise the clock before the server starts, and let nothing set it later.
//!
//! # Settings for payments
//!
//! * **PostgreSQL**: `fsync`, `full_page_writes` and `synchronous_commit` on (the defaults); with
//!   replicas, `synchronous_standby_names` naming one that a failover chooses.
//!   The store opens up to 13 connections in addition to the application's pool, for each runtime of a process.
//! * **MySQL, MariaDB**: `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` (not MariaDB's
//!   default); with replicas, semi-synchronous replication with `AFTER_SYNC` and a timeout that is never
//!   reached.
//! * **SQLite**: a local disk that flushes when told to. The store has its own connections, so the
//!   application's pool may be fully in use. There is one writer at a time, so keep write
//!   transactions and `#[tx]` handlers shorter than the shortest lease.
//! * **Redis**: `appendonly yes`, `appendfsync always`, `maxmemory-policy noeviction`, and a dedicated
//!   server. No setting makes a failover lossless, and abandoned records expire at the end
//!   of their retention without a log message.
//! * **Every store**: `on_abandoned = "reject"` or a recovery function, a TTL longer than your clients
//!   retry, and a scope if there is more than one tenant.
//!
//! # Connections
//!
//! | store | its own connections, at most | uses the application's pool | when all are in use |
//! | --- | --- | --- | --- |
//! | PostgreSQL | 13 for each runtime of a process: 10 for work, 2 for leases, 1 for notifications | for `#[tx]` only | a claim waits, twice for the [store's timeout](crate::IdempotencyBuilder::store_timeout) (2 s); then it is a 503, and nothing has happened |
//! | MySQL | 12 for each process: 10 for work, 2 for leases | for `#[tx]` only | the same |
//! | SQLite | 1 writer, a few readers | no | a claim waits for the writer |
//! | Redis | 3 for each process: operations, renewals, notifications | no | connections are multiplexed: no call waits for one |
//!
//! A handler that holds a connection of the pool delays no renewal and no completion. A `#[tx]` handler holds
//! one connection of the pool while it runs; if the pool is exhausted, the next one gets a 503 after the store's timeout, and
//! so does a retry that the replay cache does not know. Give a pool for `#[tx]` as many connections as handlers run at once
//! (`max_connections`, with `PostgresStore::new(pool)`; the pool of a URL has 10). Multiply by the number of instances, twice during
//! a rolling deploy, and compare the result with the server's limit.
//!
//! **A server that replicates synchronously, without its standby** (PostgreSQL with `synchronous_standby_names`, MySQL with
//! semi-synchronous replication that never falls back), accepts a commit and does not finish it. Closing the connection does not end such
//! a session, so each call that is given up leaves one behind until the standby is back, in addition to the connections above. Give the
//! store a role of its own with a limit (`ALTER ROLE ... CONNECTION LIMIT 40`, `CREATE USER ... WITH MAX_USER_CONNECTIONS 40`), so
//! that the application's other work keeps its connections: the store is unavailable meanwhile in either case.
//!
//! `PgBouncer` in session mode is transparent; transaction mode is described
//! in the documentation of `store::postgres`. The server's isolation level for new
//! sessions does not affect the stores' own connections. It does affect `#[tx]`: under `REPEATABLE READ` and
//! `SERIALIZABLE` a server may refuse a transaction. The client then gets a 503, and nothing has happened.
//!
//! # Several services on one store
//!
//! **Give each service a table, a Redis prefix or a [`namespace`](crate::IdempotencyBuilder::namespace) of its own.** The key of a
//! record is made of namespace, operation, scope and key. Two services that both have a `POST /orders` would share records, and
//! one would replay the other's responses.
//!
//! # Migrations, rights, TLS
//!
//! `connect` makes the table if it is missing, and needs the right to do so. Where a DBA does that:
//!
//! 1. `idempotent migrate --print --store postgres://... > idempotency.sql`, or the same text by `PostgresStore::migrations()`; `sqlx migrate`
//!    takes it, and so does a review.
//! 2. Run it as the owner of the schema, in one transaction (`psql --single-transaction -v ON_ERROR_STOP=1 -f idempotency.sql`): it is not made to
//!    be run twice. Then grant the service's role `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table, and on PostgreSQL
//!    `USAGE` on the schema (and `EXECUTE` on the functions, where that was taken from `PUBLIC`).
//! 3. `connect` as that role finds the table and changes nothing. `idempotent doctor` says whether a right is missing.
//!
//! The features of this crate bring no TLS, because there are two implementations to choose from. A URL with `sslmode=require` or
//! `rediss:` needs one in your own `Cargo.toml`, of the same version as this crate's: `sqlx = { version = "0.9", default-features = false,
//! features = ["tls-rustls-ring-webpki"] }` (or `tls-native-tls`), `redis = { version = "1", features =
//! ["tokio-rustls-comp"] }` together with `rustls` and its feature `ring` or `aws_lc_rs`. The guides of the stores say more.
//!
//! If the server cannot be reached when the service starts, `connect` is an error: retry it, or let the process be started again.
//!
//! # When the store fails
//!
//! A store can be slow, refuse, restart, fail over or lose a reply while this process is alive:
//!
//! * **Before the handler**: 503, and the handler does not run. If the reply to a claim was lost, the claim
//!   is given up in the background for ten minutes after the last claim of this process that got no reply, so no key is held for a
//!   request that never ran. A server that holds a commit up for longer while nothing else is asked (a standby that is away, below)
//!   leaves that key abandoned.
//! * **While the handler runs**: the lease is renewed every third of its length. A failed renewal is retried
//!   every twelfth, and at least every second until one succeeds; it delays no other renewal.
//! * **After the handler**: the client gets its response. Storing it is retried after 50 ms to 5 s until
//!   the store accepts it, for as long as this process is alive. The lease is renewed meanwhile, so duplicates
//!   are `in-flight`; after an outage that is longer than the lease they are `outcome-unknown` until the next renewal, which is sent at
//!   least each second. Responses that wait to be stored are bounded by
//!   [`max_pending_bytes`](crate::IdempotencyBuilder::max_pending_bytes).
//! * **If the process dies in that time**, the record is abandoned, and remains so for
//!   [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention) (30 days).
//! * **After a failover or a network fault** the store works again, without a restart, within 5 s of the
//!   moment when a fresh connection would.
//!
//! A store that is *full* refuses new keys and continues to store responses, whatever
//! [`OnStoreFailure`](crate::OnStoreFailure) says.
//!
//! # Round trips
//!
//! | store | first request | replay | hot replay | waiting |
//! | --- | --- | --- | --- | --- |
//! | memory | 0 | 0 | 0 | woken |
//! | Redis | 1 + 1 | 1 | 0 | notifications by pub/sub, and polling |
//! | PostgreSQL | 1 + 1 | 2, and writes nothing | 0 | notifications by `LISTEN`, and polling |
//! | MySQL | 2 + 1 | 1 | 0 | polling |
//! | SQLite | 0 | 0 | 0 | woken by this process, and polling |
//!
//! The first number is the claim, the second the completion. Polling is one look-up for each key and
//! process, every 50 ms at first and every second in the end, regardless of the number of waiters. Waiters
//! hold no connection.
//!
//! A hot replay is the third replay of a key or a later one. It comes from the
//! [replay cache](crate::store::replay_cache), which asks the store again every 10 s; its documentation says
//! which changes it may see late.
