//! What a database's error means, where its own code does not tell.

use crate::store::{StoreError, StoreErrorKind};

/// A database's error as a store's.
pub(in crate::store) fn store_error(store: &'static str, error: sqlx::Error) -> StoreError {
    let was_sent = !matches!(
        error,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Configuration(_)
    );
    let failure = StoreError::new(store, kind(&error)).with_source(error);
    if was_sent {
        failure
    } else {
        failure.not_executed()
    }
}

/// What kind of failure a database's error is: by its variant and never by its text.
pub(in crate::store) fn kind(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::PoolTimedOut => StoreErrorKind::TimedOut,
        // The server has understood and said no: a missing table, a permission, a wrong type.
        sqlx::Error::Database(_) | sqlx::Error::Configuration(_) => StoreErrorKind::Refused,
        sqlx::Error::Encode(_) => StoreErrorKind::TooLarge,
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::Decode(_) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

/// A value in the database that no release of this crate has written.
pub(in crate::store) fn corrupt(
    store: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(store, StoreErrorKind::Corrupt).with_source(cause)
}
