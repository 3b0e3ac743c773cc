//! The statements, with the names of the table and its schema put in.

use std::sync::{Arc, LazyLock};

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Postgres};

use crate::store::sql::{TableName, uncommented};

pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// The only things put into it are a [`TableName`] and a quoted schema.
pub(super) fn statement(sql: &Arc<str>) -> Query<'static> {
    sqlx::query(AssertSqlSafe(Arc::clone(sql)))
}

/// Whether what a transaction writes is allowed to this role. $1 the table as SQL names it
pub(super) const RIGHTS: &str = "SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'INSERT') \
    AND has_table_privilege($1, 'UPDATE') AS is_allowed";

/// What is deferred to `COMMIT` runs here, before the session is put back: in the role and with the path that the handler has set,
/// as it would without a record. Where no transaction is open it does nothing.
pub(super) const CONSTRAINTS: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// What a session is set to, and whether it is so still. Neither names the table.
pub(super) struct SessionStatements {
    pub(super) session: Arc<str>,
    pub(super) is_same: Arc<str>,
}

pub(super) static SESSION: LazyLock<SessionStatements> = LazyLock::new(|| SessionStatements {
    session: in_session("SELECT {session} AS session"),
    is_same: in_session(include_str!("sql/is_same.sql")),
});

fn in_session(template: &str) -> Arc<str> {
    let session = uncommented(include_str!("sql/session.sql"));
    Arc::from(uncommented(template).replace("{session}", session.trim()))
}

/// One statement an operation.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) claim_new: Arc<str>,
    pub(super) claim: Arc<str>,
    pub(super) complete_running: Arc<str>,
    pub(super) complete: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) save_progress: Arc<str>,
    pub(super) wait: Arc<str>,
    pub(super) renew: Arc<str>,
    pub(super) release: Arc<str>,
    pub(super) abandon: Arc<str>,
    pub(super) give_grace: Arc<str>,
    pub(super) get: Arc<str>,
    pub(super) list: Arc<str>,
    pub(super) list_uncompleted: Arc<str>,
    pub(super) remove: Arc<str>,
    pub(super) purge: Arc<str>,
    pub(super) transaction: TransactionStatements,
}

/// Those of a handler's transaction.
#[derive(Clone, Debug)]
pub(super) struct TransactionStatements {
    /// What tells the locks of this table from those of others.
    pub(super) name: Arc<str>,
    /// The table as SQL names it.
    pub(super) relation: Arc<str>,
    /// With `{locks}` still to be put in.
    pub(super) begin: Arc<str>,
    /// With `{lock}` still to be put in.
    pub(super) lock: Arc<str>,
    pub(super) enter: Arc<str>,
    pub(super) look: Arc<str>,
    pub(super) restore: Arc<str>,
    pub(super) record: Arc<str>,
    pub(super) record_again: Arc<str>,
    #[cfg(feature = "tokio-postgres")]
    pub(super) put_back: Arc<str>,
    #[cfg(feature = "tokio-postgres")]
    pub(super) record_or_fail: Arc<str>,
    #[cfg(feature = "tokio-postgres")]
    pub(super) record_again_or_fail: Arc<str>,
}

const LIST: &str = include_str!("sql/list.sql");

impl Statements {
    pub(super) fn new(schema: &str, table: &TableName) -> Self {
        let session = uncommented(include_str!("sql/session.sql"));
        let outcomes = uncommented(include_str!("sql/outcomes.sql"));
        let statement = |template: &str| {
            let template = uncommented(template)
                .replace("{session}", session.trim())
                .replace("{outcomes}", &outcomes);
            Arc::from(named(&template, schema, table))
        };
        Self {
            claim_new: statement(include_str!("sql/claim_new.sql")),
            claim: statement(include_str!("sql/claim.sql")),
            complete_running: statement(include_str!("sql/complete_running.sql")),
            complete: statement(include_str!("sql/complete.sql")),
            group: statement(include_str!("sql/group.sql")),
            save_progress: statement(include_str!("sql/save_progress.sql")),
            wait: statement(include_str!("sql/wait.sql")),
            renew: statement(include_str!("sql/renew.sql")),
            release: statement(include_str!("sql/release.sql")),
            abandon: statement(include_str!("sql/abandon.sql")),
            give_grace: statement(include_str!("sql/give_grace.sql")),
            get: statement(include_str!("sql/get.sql")),
            list: statement(&LIST.replace("{which}", "")),
            list_uncompleted: statement(&LIST.replace("{which}", "state = 1 AND")),
            remove: statement(include_str!("sql/remove.sql")),
            purge: statement(include_str!("sql/purge.sql")),
            transaction: TransactionStatements {
                name: Arc::from(format!("{schema}.{table}")),
                relation: statement(r#"{schema}."{table}""#),
                begin: statement(include_str!("sql/begin.sql")),
                lock: statement(include_str!("sql/lock.sql")),
                enter: statement(include_str!("sql/enter.sql")),
                look: statement(include_str!("sql/look.sql")),
                restore: statement(include_str!("sql/restore.sql")),
                record: statement(include_str!("sql/record.sql")),
                record_again: statement(include_str!("sql/record_again.sql")),
                #[cfg(feature = "tokio-postgres")]
                put_back: statement(&put_back()),
                #[cfg(feature = "tokio-postgres")]
                record_or_fail: statement(&or_fail(include_str!("sql/record.sql"))),
                #[cfg(feature = "tokio-postgres")]
                record_again_or_fail: statement(&or_fail(include_str!("sql/record_again.sql"))),
            },
        }
    }
}

/// [`TransactionStatements::is_same`] and [`TransactionStatements::restore`] in one.
#[cfg(feature = "tokio-postgres")]
fn put_back() -> String {
    let is_ours = "(found.id = $2) IS TRUE";
    let restore = uncommented(include_str!("sql/restore.sql")).replace("$2", is_ours);
    include_str!("sql/put_back.sql")
        .replace("{is_same}", &uncommented(include_str!("sql/is_same.sql")))
        .replace("{restore}", &restore)
}

/// What has become of a transaction that was [begun](super::transaction::Begun).
pub(super) const FATE: &str = include_str!("sql/fate.sql");

/// Whether it is at work.
pub(super) const IS_AT_WORK: &str = include_str!("sql/is_at_work.sql");

pub(super) const END_SESSION: &str = include_str!("sql/end_session.sql");

/// A statement that writes a record, and fails where it has written none.
#[cfg(feature = "tokio-postgres")]
fn or_fail(record: &str) -> String {
    include_str!("sql/or_fail.sql").replace("{record}", &uncommented(record))
}

/// A statement in which `{schema}` and `{table}` stand for these names.
pub(super) fn named(template: &str, schema: &str, table: &TableName) -> String {
    table
        .in_statement(template)
        .replace("{schema}", &quoted(schema))
}

/// As an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
