//! The name of a table, and statements with it.

use std::fmt;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use std::sync::Arc;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::error::{Error, ErrorKind};

/// The name of a table: a plain SQL identifier, so that it can stand in a statement as it is.
///
/// One to 48 letters, digits and underscores, not beginning with a digit. (48, because the names of
/// its index and functions are made from it, and PostgreSQL cuts names off after 63 bytes.)
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct TableName(String);

impl TableName {
    pub(in crate::store) const DEFAULT: &'static str = "idempotency_records";

    pub(in crate::store) fn new(name: &str) -> Result<Self, Error> {
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
    pub(in crate::store) fn in_statement(&self, template: &str) -> String {
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

/// A statement that is prepared, and found again by its text. The only things put into it from outside are names and
/// numbers.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(in crate::store) fn prepared(statement: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(statement)).into_sql_str()
}

/// A statement without its comments, which need not be sent to a server each time, or hashed.
pub(in crate::store) fn uncommented(statement: &str) -> String {
    let is_code = |line: &&str| !line.starts_with("--");
    let code: Vec<_> = statement.lines().filter(is_code).collect();
    code.join("\n")
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
