//! What the SQL stores share.

use std::fmt;

use super::{StoreError, StoreErrorKind};
use crate::error::{Error, ErrorKind};

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod loan;
pub(super) mod transaction;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) use loan::{Loan, RETURN_LIMIT};

/// The name of a table: a plain SQL identifier, so that it can stand in a statement as it is.
///
/// One to 48 letters, digits and underscores, not beginning with a digit. (48, because the names of
/// its index and functions are made from it, and PostgreSQL cuts names off after 63 bytes.)
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TableName(String);

impl TableName {
    pub(super) const DEFAULT: &'static str = "idempotency_records";

    pub(super) fn new(name: &str) -> Result<Self, Error> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_good = (1..=48).contains(&name.len())
            && name.bytes().all(is_word)
            && !name.starts_with(|first: char| first.is_ascii_digit());
        if is_good {
            return Ok(Self(name.to_owned()));
        }
        let message = "a table's name is 1 to 48 letters, digits and underscores, and does not begin with a digit";
        Err(Error::new(ErrorKind::InvalidName, message))
    }

    /// A statement in which `{table}` stands for this name.
    pub(super) fn in_statement(&self, template: &str) -> String {
        template.replace("{table}", &self.0)
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A statement without its comments, which need not be sent to a server each time, or hashed.
pub(super) fn uncommented(statement: &str) -> String {
    let is_code = |line: &&str| !line.starts_with("--");
    let code: Vec<_> = statement.lines().filter(is_code).collect();
    code.join("\n")
}

/// A database's error as a store's.
pub(super) fn store_error(store: &'static str, error: sqlx::Error) -> StoreError {
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
pub(super) fn kind(error: &sqlx::Error) -> StoreErrorKind {
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
pub(super) fn corrupt(
    store: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(store, StoreErrorKind::Corrupt).with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_table_names() {
        for good in ["idempotency_records", "_t1", "Records"] {
            assert!(TableName::new(good).is_ok(), "{good}");
        }
        let too_long = "t".repeat(49);
        for bad in [
            "",
            "1t",
            "t-1",
            "t; drop table users",
            "public.t",
            "\"t\"",
            "tä",
            &too_long,
        ] {
            assert_eq!(
                TableName::new(bad).unwrap_err().kind(),
                ErrorKind::InvalidName,
                "{bad}"
            );
        }
    }
}
