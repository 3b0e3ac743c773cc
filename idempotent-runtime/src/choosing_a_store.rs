//! Which store to choose, with which settings, and what each store can lose. This module contains documentation only.
//!
//! # Why it matters
//!
//! A record is what stands between a retry and a second charge. If a store loses a record, the next request with that
//! key runs again, and you learn of it from a customer. So do not ask first how fast a store is. Ask what can make it
//! lose a record.
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
//! | Redis, `appendfsync everysec` | kept | **the last one or two seconds are lost**; while its disk is slow, a crash of Redis alone loses them too | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | Redis, `appendfsync always` | kept | kept | what the replica lacks is lost | **lost**, unless `noeviction` |
//! | PostgreSQL, defaults | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | PostgreSQL, synchronous standby | kept | kept | kept | never |
//! | PostgreSQL, `synchronous_commit = off` | kept | **the last fraction of a second is lost** | as above | never |
//! | MySQL, `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` | kept | kept | asynchronous: what the replica lacks is lost | never |
//! | MySQL, the same, with semi-synchronous replication that never falls back | kept | kept | kept | never |
//! | SQLite (`synchronous = FULL`, which the store sets) | kept | kept, if the disk flushes when told to | - | never |
//!
//! "Process crash" is a crash of your application. On every durable store, a key whose handler was *running* at that
//! moment becomes abandoned: see [`OnAbandoned`](crate::OnAbandoned).
//!
//! **A clock that is set.** Leases and TTLs end by the clock of the store's server (SQLite: of the machine). Correcting it slowly
//! (`chronyd` and `ntpd` slew it) harms nothing. Set ahead by more than what is left of a TTL, it ends that record, and a retry runs; so
//! does what was completed while the clock was behind by more than the TTL, as soon as the clock is right again. A lease that it ends is
//! renewed at once where the request's process is alive. Set back, it keeps records for as much longer, and the keys of crashed requests
//! `in-flight` for as much longer. So synchronise the clock before the server starts, and let nothing set it later.
//!
//! # Settings for payments
//!
//! * **PostgreSQL**: `fsync`, `full_page_writes` and `synchronous_commit` on (the defaults); with replicas,
//!   `synchronous_standby_names` with the standby that a failover promotes.
//! * **MySQL, MariaDB**: `innodb_flush_log_at_trx_commit = 1`, `sync_binlog = 1` (not MariaDB's
//!   default); with replicas, semi-synchronous replication with `AFTER_SYNC` and a timeout that is never
//!   reached.
//! * **SQLite**: a local disk that flushes when told to. There is one writer at a time, so keep write transactions and
//!   `#[tx]` handlers shorter than the shortest lease.
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
//! | PostgreSQL | 13 for each runtime of a process: 10 for work, 2 for leases, 1 for notifications | for `#[tx]` only | a claim waits for twice the [store timeout](crate::IdempotencyBuilder::store_timeout) (2 s); then the request gets a 503, and nothing has happened |
//! | MySQL | 12 for each runtime of a process: 10 for work, 2 for leases | for `#[tx]` only | the same |
//! | SQLite | 1 writer, a few readers | no | a claim waits for the writer |
//! | Redis | 3 for each process: operations, renewals, notifications | no | connections are multiplexed: no call waits for one |
//!
//! A handler that holds a connection of the pool delays no renewal and no completion. A `#[tx]` handler holds one
//! connection of the pool while it runs. If the pool is exhausted, the next request gets a 503 after the store timeout,
//! and so does a retry, which is read over the pool too. Give a pool for `#[tx]` as many connections as there are
//! handlers running at once (`max_connections`, with `PostgresStore::new(pool)`; the pool of a URL has 10). Multiply by
//! the number of instances, twice during a rolling deploy, and compare the result with the server's limit.
//!
//! **A server that replicates synchronously, without its standby** (PostgreSQL with `synchronous_standby_names`, MySQL
//! with semi-synchronous replication that never falls back), accepts a commit and does not finish it. Closing the
//! connection does not end its session on the server. So each call that times out leaves a session behind until the
//! standby is back, in addition to the connections above. Give the store its own role with a limit (`ALTER ROLE ...
//! CONNECTION LIMIT 40`, `CREATE USER ... WITH MAX_USER_CONNECTIONS 40`), so that the application's other work keeps
//! its connections. The store is unavailable in this situation with or without the limit.
//!
//! `PgBouncer` in session mode is transparent; for transaction mode see the documentation of `store::postgres`. The
//! server's isolation level for new sessions does not affect the stores' own connections. It does affect `#[tx]`: under
//! `REPEATABLE READ` and `SERIALIZABLE` a server may refuse a transaction. The client then gets a 503, and nothing has
//! happened.
//!
//! # Several services on one store
//!
//! **Give each service a table, a Redis prefix or a [`namespace`](crate::IdempotencyBuilder::namespace) of its own.** A
//! record key is made of namespace, operation, scope and the client's key. Two services that both have a `POST /orders`
//! would share records, and one would replay the other's responses.
//!
//! # Migrations, rights, TLS
//!
//! `connect` creates the table if it is missing, and needs the right to do so. If a DBA creates it instead:
//!
//! 1. Write the statements to a file: `idempotent migrate --print --store postgres://... > idempotency.sql` (the crate
//!    `idempotent-cli`). In Rust, `PostgresStore::migrations()` returns the same text. You can review it, and run it
//!    with `sqlx migrate`.
//! 2. Run the file once, as the owner of the schema, in one transaction (`psql --single-transaction -v ON_ERROR_STOP=1
//!    -f idempotency.sql`). Then grant the service's role `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table. On
//!    PostgreSQL, also grant `USAGE` on the schema (and `EXECUTE` on the functions, if `PUBLIC` does not have it).
//! 3. When the service connects as that role, `connect` finds the table and changes nothing. `idempotent doctor` says
//!    whether a right is missing.
//!
//! The features of this crate include no TLS, because there are two implementations to choose from. For a URL with
//! `sslmode=require` or `rediss:`, enable one in your own `Cargo.toml`, for the same version of sqlx or redis as this
//! crate uses: `sqlx = { version = "0.9", default-features = false, features = ["tls-rustls-ring-webpki"] }` (or
//! `tls-native-tls`), `redis = { version = "1", features = ["tokio-rustls-comp"] }` together with `rustls` and its
//! feature `ring` or `aws_lc_rs`. The documentation of each store says more.
//!
//! If the server cannot be reached when the service starts, `connect` returns an error: retry, or let your orchestrator
//! restart the process.
//!
//! # When the store fails
//!
//! A store can be slow, refuse, restart, fail over or lose a reply while this process is alive:
//!
//! * **Before the handler**: 503, and the handler does not run. If the reply to a claim is lost, the process releases
//!   the claim in the background, until ten minutes after its last claim without a reply, so no key is held for a
//!   request that never ran. If the server delays a commit for longer than that while no other claim is made (a missing
//!   standby, see above), the key becomes abandoned.
//! * **While the handler runs**: the lease is renewed every third of its length. A failed renewal is retried every
//!   twelfth of the lease, and at least every second, until one succeeds. It delays no other renewal.
//! * **After the handler**: the client gets its response. Storing it is retried after 50 ms to 5 s until the store
//!   accepts it, for as long as this process is alive. The lease is renewed meanwhile, so duplicates are `in-flight`;
//!   after an outage longer than the lease they are `outcome-unknown` until the next renewal, which is sent at least
//!   every second. The memory for responses that wait to be stored is bounded by
//!   [`max_pending_bytes`](crate::IdempotencyBuilder::max_pending_bytes).
//! * **If the process dies before its response is stored**, the record is abandoned, and remains so for
//!   [`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention) (30 days).
//! * **After a failover or a network fault** the store works again, without a restart, within 5 s of the moment at
//!   which a new connection would work.
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
//! The first number is the claim, the second the completion. Polling is one look-up for each key and process, at first
//! every 50 ms and later every second, regardless of the number of waiters. Waiters hold no connection.
//!
//! A hot replay is the third replay of a key, or a later one. It comes from the [replay
//! cache](crate::store::replay_cache), which asks the store again every 10 s; its documentation says which changes it
//! may see late. Replays of a `#[tx]` handler are always read from the database.
