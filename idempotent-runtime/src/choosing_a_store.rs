//! Which store, with which settings, and what each of them can lose. This module holds documentation
//! only.
//!
//! # Why it matters
//!
//! A record is what stands between a retry and a second charge. A store that forgets one makes its key
//! run again, and no one notices until a customer does. So the question is not how fast a store is,
//! but what has to happen for it to forget.
//!
//! # Choose
//!
//! * **The effect is a row in your own SQL database**: keep the records in that database.
//!   They share its durability, its backups and its fail-over, and there is nothing else to run.
//! * **Several instances, effects elsewhere** (a payment provider, a queue): PostgreSQL or MySQL if
//!   losing a record means money; Redis if the effect is idempotent itself, or an occasional second
//!   run can be put right.
//! * **One machine**: SQLite. Durable, no server.
//! * **One process, and a restart may forget**: memory. Development, tests, and operations whose keys
//!   matter for seconds.
//!
//! # What survives what
//!
//! "Kept" means every record that was acknowledged; what is lost runs again when its key comes again.
//!
//! | store and setting | process crash | power cut of the store | fail-over | eviction |
//! | --- | --- | --- | --- | --- |
//! | memory | **lost** | **lost** | - | never: full means 503 |
//! | Redis, no persistence | kept | **lost** | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | Redis, `appendfsync everysec` | kept | **the last second or two are lost** | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | Redis, `appendfsync always` | kept | kept | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | PostgreSQL, defaults | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | PostgreSQL, synchronous standby | kept | kept | kept | never |
//! | PostgreSQL, `synchronous_commit = off` | kept | **the last fraction of a second is lost** | as above | never |
//! | MySQL, `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | MySQL, the same and semi-synchronous that never falls back | kept | kept | kept | never |
//! | SQLite (`synchronous = FULL`, which the store sets) | kept | kept, on an honest disk | - | never |
//!
//! "Process crash" is your application's. What was *running* then is abandoned on every store: see
//! [`OnAbandoned`](crate::OnAbandoned).
//!
//! # The exact settings for money
//!
//! * **PostgreSQL**: `fsync`, `full_page_writes` and `synchronous_commit` on (the defaults); with
//!   replicas, `synchronous_standby_names` naming one that a fail-over chooses.
//!   The store opens up to 19 connections beside the application's pool, for each runtime of a process.
//! * **MySQL, MariaDB**: `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` (not MariaDB's
//!   default); with replicas, semi-synchronous with `AFTER_SYNC` and a time-out that is never reached.
//! * **SQLite**: a local disk that does not lie about flushing. The store has connections of its own, so that
//!   the application's pool may be in use to the last; but there is one writer at a time, so keep write
//!   transactions and `#[tx]` handlers shorter than the shortest lease.
//! * **Redis**: `appendonly yes`, `appendfsync always`, `maxmemory-policy noeviction`, a server of its
//!   own; and know that no setting makes a fail-over lossless, and that abandoned records go at the end
//!   of their retention without a word in any log.
//! * **Everywhere**: `on_abandoned = "reject"` or a recovery function, a TTL longer than your clients
//!   retry, and a scope if there is more than one tenant.
//!
//! # Connections
//!
//! | store | connections of its own, at most | shares the application's pool | when all are in use |
//! | --- | --- | --- | --- |
//! | PostgreSQL | 19 for each runtime of a process: 16 for work, 2 for leases, 1 for hints | for `#[tx]` only | a claim waits, and is 503 after the store's time-out; nothing has happened |
//! | MySQL | 12 for each process: 10 for work, 2 for leases | for `#[tx]` only | the same |
//! | SQLite | 1 writer, a few readers | no | a claim waits for the writer's turn |
//! | Redis | 1, and 1 for hints | no | it is multiplexed |
//!
//! A handler that holds a connection of the pool delays no renewal and no completion. A `#[tx]` handler holds
//! one connection of the pool while it runs; a pool that is used up is 503 for the next one. Multiply by the
//! number of instances, twice during a rolling deploy, and compare with the server's limit.
//!
//! `PgBouncer` in session mode is transparent; transaction mode is described
//! in the documentation of `store::postgres`. The isolation level that the server has for new
//! sessions does not matter to the stores' own connections. It does for `#[tx]`: under `REPEATABLE READ` and
//! `SERIALIZABLE` a server may refuse a transaction, which is a 503 after which nothing has happened.
//!
//! # When the store is in trouble
//!
//! A store can be slow, refuse, restart, fail over or lose a reply while this process lives:
//!
//! * **Before the handler**: 503, and the handler does not run. A claim whose reply was lost is given up in
//!   the background until it cannot arrive any more, so that no key is held for a request that never ran.
//! * **While the handler runs**: its lease is renewed every third of it. A renewal that fails is tried again
//!   every twelfth, and delays no other's.
//! * **After the handler**: the client gets its answer, and storing it is retried after 50 ms to 5 s until
//!   the store takes it, for as long as this process lives. Its lease is renewed meanwhile, so duplicates
//!   are `in-flight`. Responses that wait are bounded by
//!   [`max_pending_bytes`](crate::IdempotencyBuilder::max_pending_bytes).
//! * **If the process dies in that time**, the record is abandoned, and kept as such for
//!   [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention) (30 days).
//! * **After a fail-over or a network fault** the store works again within 5 s of the moment when a fresh
//!   connection would, without a restart.
//!
//! A store that is *full* refuses new keys and goes on storing, whatever
//! [`OnStoreFailure`](crate::OnStoreFailure) says.
//!
//! # Round trips
//!
//! | store | first request | replay | hot replay | waiting |
//! | --- | --- | --- | --- | --- |
//! | memory | 0 | 0 | 0 | woken |
//! | Redis | 1 + 1 | 1 | 0 | hints by pub/sub, and polling |
//! | PostgreSQL | 1 + 1 | 1, and writes nothing | 0 | hints by `LISTEN`, and polling |
//! | MySQL | 2 + 1 | 1 | 0 | polling |
//! | SQLite | 0 | 0 | 0 | woken by this process, and polling |
//!
//! The first number is the claim, the second the completion. Polling is one look for each key and
//! process, every 50 ms at first and every second at last, however many wait; waiters hold no
//! connection.
//!
//! A hot replay is one from the third on: the [replay cache](crate::store::replay_cache), which says
//! what it may be late to see, asks the store again every 10 s.
