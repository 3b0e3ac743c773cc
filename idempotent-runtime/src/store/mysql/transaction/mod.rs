//! Transactions of MySQL and MariaDB.
//!
//! A look at the record; the key's lock, and a look behind it; `START TRANSACTION`; the record, still running,
//! by which the key is taken; the savepoint; the handler's statements; the record completed; `COMMIT`.
//! No other session sees the running record. When the server rolls the transaction back, as it does with one of
//! two that lock each other out, the record is gone, which is how that is noticed.
//!
//! `autocommit` is off meanwhile, and all other transactions of the session are read-only: what a handler writes after it has
//! ended its transaction, and has not noticed, would otherwise be committed without the record. After a rollback by the
//! server the session stays writable: there a handler that goes on must not commit by itself.
//!
//! The connection is the application's. A handler may leave its session changed: then it is closed and
//! not given back. It is compared in the round trips that there are anyway, which costs less than a new
//! connection for each transaction; sqlx has no `COM_RESET_CONNECTION`.

mod begin;
mod connection;
mod fate;
mod open;
mod session;

pub(super) use begin::MySqlTransactions;
