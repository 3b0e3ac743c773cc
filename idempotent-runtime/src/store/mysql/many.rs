//! The statements about many records. They are sent as text, with the keys in them: there is no end to the number of
//! keys, and what is only a few bytes each needs no preparing.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::SqlStr;

use super::statements::{session_limit, text};
use super::table::QualifiedTable;
use crate::key::RecordKey;
use crate::store::sql::{micros, uncommented};

/// How long the server waits between the two messages of a transaction of this store's own.
const BETWEEN_TWO_MESSAGES: Duration = Duration::from_secs(5);

const COMMIT: &str = "COMMIT; SET wait_timeout = @idempotent_wait_timeout";

pub(super) struct ManyStatements {
    lock: String,
    look: String,
    renew: String,
    abandon: String,
    delete: String,
    expired: String,
}

/// What becomes of a record that another session has locked.
#[derive(Clone, Copy)]
pub(super) enum Locked {
    Skip,
    /// For as long as the session waits for a lock.
    Wait,
}

impl ManyStatements {
    pub(super) fn new(table: &QualifiedTable) -> Self {
        let many = |template: &str| table.in_statement(&uncommented(template));
        Self {
            lock: many(include_str!("sql/lock.sql")),
            look: many(include_str!("sql/look.sql")),
            renew: many(include_str!("sql/renew.sql")),
            abandon: many(include_str!("sql/abandon.sql")),
            delete: many(include_str!("sql/delete.sql")),
            expired: many(include_str!("sql/expired.sql")),
        }
    }

    /// Begins a transaction that has locked these records.
    pub(super) fn lock(&self, keys: &[RecordKey], locked: Locked) -> SqlStr {
        let lock = with_keys(&self.lock, keys);
        let locked = match locked {
            Locked::Skip => " SKIP LOCKED",
            Locked::Wait => "",
        };
        text(format!("{}{lock}{locked}", begin_briefly()))
    }

    /// Begins a transaction that has locked at most so many expired records.
    pub(super) fn lock_expired(&self, limit: usize) -> SqlStr {
        let expired = self.expired.replace("{limit}", &limit.to_string());
        text(begin_briefly() + &expired)
    }

    /// Commits such a transaction after these statements.
    pub(super) fn commit(statements: &[String]) -> SqlStr {
        let mut all = statements.join("; ");
        if !all.is_empty() {
            all.push_str("; ");
        }
        text(all + COMMIT)
    }

    pub(super) fn look(&self, keys: &[RecordKey]) -> SqlStr {
        text(with_keys(&self.look, keys))
    }

    pub(super) fn renew(&self, keys: &[RecordKey], lease: Duration, life: Duration) -> String {
        let renew = self.renew.replace("{lease}", &micros(lease).to_string());
        with_keys(&renew.replace("{life}", &micros(life).to_string()), keys)
    }

    pub(super) fn abandon(&self, keys: &[RecordKey]) -> String {
        with_keys(&self.abandon, keys)
    }

    /// One statement each.
    pub(super) fn delete(&self, keys: &[RecordKey]) -> Vec<String> {
        let delete = |key: &RecordKey| self.delete.replace("{key}", &literal(key.as_bytes()));
        keys.iter().map(delete).collect()
    }
}

fn begin_briefly() -> String {
    session_limit(BETWEEN_TWO_MESSAGES) + "; START TRANSACTION; "
}

/// The keys are digits, so that they can stand in a statement as they are.
fn with_keys(template: &str, keys: &[RecordKey]) -> String {
    let mut literals = String::with_capacity(keys.len() * (size_of::<RecordKey>() * 2 + 4));
    for key in keys {
        let separator = if literals.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(literals, "{separator}{}", literal(key.as_bytes()));
    }
    template.replace("{keys}", &literals)
}

/// The bytes as a literal.
pub(super) fn literal(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(bytes.len() * 2 + 3);
    literal.push_str("X'");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}
