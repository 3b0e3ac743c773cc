//! What the SQL stores share.

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod connections;
mod error;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod loan;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod per_runtime;
mod schema;
mod table;
mod time;
pub(super) mod transaction;

#[cfg(feature = "postgres")]
pub(super) use connections::MOST_PATIENCE;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use connections::patience;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use connections::{Connections, Idle, try_out};
#[cfg(feature = "sqlite")]
pub(super) use error::kind;
pub(super) use error::{corrupt, store_error};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use loan::{Loan, RETURN_LIMIT};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use per_runtime::PerRuntime;
#[cfg(feature = "postgres")]
pub(super) use schema::Unusable;
pub(super) use schema::{Found, NotMigrated};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(super) use table::prepared;
pub(super) use table::{TableName, uncommented};
pub(super) use time::{length, micros};
