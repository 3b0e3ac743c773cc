//! A MySQL or MariaDB server to test on, and a table of one's own on it.

use std::str::FromStr;
use std::time::Duration;

use idempotent_runtime::Token;
use idempotent_runtime::store::mysql::MySqlStore;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool};

const URL: &str = "IDEMPOTENT_TEST_MYSQL_URL";
const DEFAULT_URL: &str = "mysql://root@127.0.0.1:3306/test";

/// A table name of its own, and connections to its database.
pub(crate) struct Scratch {
    options: MySqlConnectOptions,
    table: String,
    admin: MySqlPool,
}

impl Scratch {
    /// `None`, with a line that says so, when there is no server; in continuous integration that
    /// is a failure.
    pub(crate) async fn new() -> Option<Self> {
        let named = std::env::var(URL).ok();
        let url = named.clone().unwrap_or_else(|| DEFAULT_URL.to_owned());
        if let Err(error) = MySqlConnection::connect(&url).await {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                named.is_none() && !in_ci,
                "no MySQL server, set {URL}: {error}"
            );
            skip(&format!("no MySQL server, set {URL}"));
            return None;
        }
        let options = MySqlConnectOptions::from_str(&url).unwrap();
        let random = u128::from_ne_bytes(*Token::random().unwrap().as_bytes());
        let admin = pool(&options, 1);
        let table = format!("test_{random:032x}");
        Some(Self {
            options,
            table,
            admin,
        })
    }

    /// A store with a pool of its own, as another process would have it.
    pub(crate) fn store(&self, connections: u32) -> MySqlStore {
        let pool = pool(&self.options, connections);
        MySqlStore::new(pool).with_table(&self.table).unwrap()
    }

    /// Runs a statement in which `{table}` stands for the table.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sql.replace("{table}", &self.table);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.admin)
            .await
            .unwrap();
    }

    pub(crate) async fn clean_up(self) {
        self.execute("DROP TABLE IF EXISTS {table}").await;
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a test that did nothing must not look like one that passed"
)]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

fn pool(options: &MySqlConnectOptions, connections: u32) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with(options.clone())
}

/// An error and its causes, one after the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
