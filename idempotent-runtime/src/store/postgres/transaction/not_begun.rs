//! Why a transaction was not begun.

use crate::store::postgres::error::{NAME, code, is_of_connection, store_error};
use crate::store::{StoreError, StoreErrorKind};

pub(in crate::store::postgres) struct NotBegun {
    pub(in crate::store::postgres) error: StoreError,
    /// Whether that can be another one on another connection.
    pub(in crate::store::postgres) is_of_session: bool,
}

impl NotBegun {
    /// There is no point in running the handler.
    pub(in crate::store::postgres) fn read_only() -> Self {
        let error = StoreError::new(NAME, StoreErrorKind::Refused);
        Self {
            error: error.with_source("the transaction is read-only"),
            is_of_session: true,
        }
    }
}

impl From<sqlx::Error> for NotBegun {
    fn from(error: sqlx::Error) -> Self {
        let is_pools = matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        // insufficient_privilege: what used the connection before has left it with another role
        let is_of_session =
            !is_pools && (is_of_connection(&error) || code(&error).as_deref() == Some("42501"));
        Self {
            error: store_error(error).not_executed(),
            is_of_session,
        }
    }
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            is_of_session: false,
        }
    }
}
