//! A handler that has ended its transaction by itself.
//!
//! After `COMMIT` the record is there, without an answer. After `ROLLBACK` it is gone, as it is after the server's own rollback of
//! one of two transactions that lock each other out, and what is committed then is committed without it. That cannot be
//! taken back, so that a retry must not run: what the retry must find is written by a connection of the store's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::mysql::lane::on_lane;
use crate::store::mysql::records::Records;
use crate::store::mysql::row;
use crate::store::transaction::TransactionRequest;
use crate::store::{ClaimRequest, StoreError};

/// How long a record that a handler has committed by itself lives at least while it is not completed.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Without a lease: should the handler commit by itself, as it does by every `CREATE TABLE`, what
/// others see is that it is unknown how that ends.
pub(super) fn claim_of(request: &TransactionRequest, key: RecordKey) -> ClaimRequest<'_> {
    ClaimRequest {
        owner: Owner {
            key,
            token: request.owner.token,
        },
        fingerprint: request.fingerprint,
        operation: &request.operation,
        label: request.label.as_deref(),
        lease: Duration::ZERO,
        retention: request.ttl.max(RETENTION),
        take_over: None,
    }
}

/// What the session had run before the handler, as `counters.sql` returns it. It is read only where it is asked for.
pub(super) struct Counters(pub(super) Vec<MySqlRow>);

impl Counters {
    /// Without the kinds of statements that commit nothing.
    fn commits(&self) -> Result<BTreeMap<Arc<str>, Arc<str>>, StoreError> {
        let mut commits = BTreeMap::new();
        for counter in &self.0 {
            let name = row::text(counter, 0)?;
            if !is_harmless(&name) {
                commits.insert(name, row::text(counter, 1)?);
            }
        }
        Ok(commits)
    }
}

/// Kinds of statements that commit nothing while `autocommit` is off. What a procedure runs is counted on its own. `SET`
/// is not one of them: it may have turned `autocommit` on.
const HARMLESS: [&str; 24] = [
    "admin_commands",
    "call_procedure",
    "change_db",
    "dealloc_sql",
    "delete",
    "delete_multi",
    "do",
    "execute_immediate",
    "execute_sql",
    "get_diagnostics",
    "insert",
    "insert_select",
    "prepare_sql",
    "release_savepoint",
    "replace",
    "replace_select",
    "resignal",
    "rollback",
    "rollback_to_savepoint",
    "savepoint",
    "select",
    "signal",
    "update",
    "update_multi",
];

fn is_harmless(counter: &str) -> bool {
    let Some(kind) = counter.strip_prefix("Com_") else {
        return true;
    };
    kind.starts_with("show_") || kind.starts_with("stmt_") || HARMLESS.contains(&kind)
}

impl Records {
    /// Whether the session may have committed something since then; `true` also where it does not say.
    pub(super) async fn may_have_committed(
        &self,
        connection: &mut MySqlConnection,
        before: &Counters,
    ) -> bool {
        let now = sqlx::raw_sql(self.pooled.counters()).fetch_all(connection);
        let Ok(now) = now.await.map(Counters) else {
            return true;
        };
        match (before.commits(), now.commits()) {
            (Ok(before), Ok(now)) => before != now,
            _ => true,
        }
    }

    /// Keeps that the outcome is unknown, where there is no record.
    pub(super) async fn keep_unknown(&self, request: &TransactionRequest) {
        tracing::error!(record = %request.owner.key,
            "a handler has ended its transaction by itself, and its outcome is unknown");
        for key in request.keys() {
            let claim = claim_of(request, key);
            if let Err(error) = on_lane!(self, calls, claim_on(&claim)) {
                tracing::error!(record = %key, error = &error as &dyn std::error::Error,
                    "nothing could be stored for it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_harmless;

    #[test]
    fn statements_that_commit_are_not_harmless() {
        for kind in [
            "commit",
            "begin",
            "set_option",
            "create_table",
            "lock_tables",
            "xa_commit",
        ] {
            assert!(!is_harmless(&format!("Com_{kind}")), "{kind}");
        }
        for kind in [
            "select",
            "show_status",
            "stmt_execute",
            "rollback",
            "savepoint",
        ] {
            assert!(is_harmless(&format!("Com_{kind}")), "{kind}");
        }
        assert!(is_harmless("Compression"));
    }
}
