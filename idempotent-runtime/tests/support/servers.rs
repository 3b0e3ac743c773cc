//! The database servers that tests share.

use async_trait::async_trait;
use idempotent_runtime::Token;
use idempotent_runtime::store::conformance::RecordLock;
use sqlx::{Connection, Database};

#[expect(
    clippy::print_stderr,
    reason = "a test that did nothing must not look like one that passed"
)]
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// The URL of a server; `None`, with a line that says so, when there is no server.
///
/// A server that was named and is not there is a failure, and in continuous integration any missing one is.
pub(crate) async fn url_of<DB: Database>(variable: &str, default: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    let url = named.clone().unwrap_or_else(|| default.to_owned());
    let Err(error) = DB::Connection::connect(&url).await else {
        return Some(url);
    };
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let missing = format!("no {} server, set {variable}", DB::NAME);
    assert!(named.is_none() && !in_ci, "{missing}: {error}");
    skip(&missing);
    None
}

/// A name that no other table has.
pub(crate) fn table() -> String {
    let random = u128::from_ne_bytes(*Token::random().unwrap().as_bytes());
    format!("test_{random:032x}")
}

/// A transaction of another client that has locked a record.
pub(crate) struct Lock<DB: sqlx::Database>(pub(crate) sqlx::Transaction<'static, DB>);

#[async_trait]
impl<DB: sqlx::Database> RecordLock for Lock<DB> {
    async fn unlock(self: Box<Self>) {
        self.0.rollback().await.unwrap();
    }
}
