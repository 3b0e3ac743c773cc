//! `#[tx]` on PostgreSQL, SQLite and MySQL: a handler's writes and its record are there together, or
//! neither is. Each scenario is one function, and runs on every database through real HTTP.

#[path = "../../xtask/src/free_port.rs"]
mod free_port;
#[path = "../../idempotent-runtime/tests/support/postgres_own_server.rs"]
mod own_server;
mod support;

mod conflicts;
mod cost;
mod deadpool;
mod deferred;
mod duplicates;
mod failures;
mod given_up;
mod handles;
mod hanging;
mod left_open;
mod nested;
mod old_keys;
mod outcomes;
mod own_commit;
mod places;
mod records;
mod rotation;
mod runaway;
mod silence;
mod standing;
mod startup;
mod status;
mod unprotected;
