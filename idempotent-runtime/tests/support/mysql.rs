//! A MySQL or MariaDB server to test on, and a table of one's own on it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use idempotent_runtime::store::mysql::MySqlStore;
use sqlx::mysql::{MySqlConnectOptions, MySqlExecutor, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, MySql, MySqlConnection, MySqlPool, Row, Transaction};

use crate::records::table;
pub(crate) use crate::records::{PATIENCE, answer, chain, claimed, request, rival, skip};

const URL: &str = "IDEMPOTENT_TEST_MYSQL_URL";
const DEFAULT_URL: &str = "mysql://root@127.0.0.1:3306/test";

/// A table name of its own, and connections to its database.
pub(crate) struct Scratch {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) table: String,
    pub(crate) admin: MySqlPool,
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
        Some(Self {
            admin: pool(&options, 2),
            options,
            table: table(),
        })
    }

    /// The same, migrated.
    pub(crate) async fn migrated() -> Option<Self> {
        let scratch = Self::new().await?;
        scratch.store(1).migrate().await.unwrap();
        Some(scratch)
    }

    /// A store with a pool of its own, as another process would have it.
    pub(crate) fn store(&self, connections: u32) -> MySqlStore {
        self.store_on(self.pool(connections))
    }

    pub(crate) fn store_on(&self, pool: MySqlPool) -> MySqlStore {
        MySqlStore::new(pool).with_table(&self.table).unwrap()
    }

    pub(crate) fn pool(&self, connections: u32) -> MySqlPool {
        pool(&self.options, connections)
    }

    /// Runs statements in which `{table}` stands for the table.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sql.replace("{table}", &self.table);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.admin)
            .await
            .unwrap();
    }

    /// A transaction that has run this statement, in which `{table}` stands for the table, and holds
    /// the locks that it took.
    pub(crate) async fn hold(&self, sql: &str) -> Transaction<'static, MySql> {
        let mut transaction = self.admin.begin().await.unwrap();
        self.hold_too(&mut transaction, sql).await;
        transaction
    }

    pub(crate) async fn hold_too(&self, holding: &mut MySqlConnection, sql: &str) {
        let sql = sql.replace("{table}", &self.table);
        let held = sqlx::raw_sql(AssertSqlSafe(sql)).execute(holding);
        tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap();
    }

    /// Waits until a statement on this connection waits for a lock in another transaction than
    /// `before`, and returns the transaction's id.
    pub(crate) async fn until_blocked(&self, connection: u64, before: Option<&str>) -> String {
        let started = Instant::now();
        loop {
            match self.blocked(connection).await {
                Some(transaction) if before != Some(&transaction) => return transaction,
                _ => assert!(started.elapsed() < PATIENCE, "it does not wait"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The transaction in which this connection waits for a lock. (Not from `INNODB_TRX`, which is
    /// brought up to date only when nobody has looked for a tenth of a second.)
    async fn blocked(&self, connection: u64) -> Option<String> {
        let status = sqlx::raw_sql("SHOW ENGINE INNODB STATUS")
            .fetch_one(&self.admin)
            .await
            .unwrap();
        let status: &str = status.get("Status");
        let thread = format!(" thread id {connection},");
        let mut transactions = status.split("---TRANSACTION ").skip(1);
        let waiting =
            transactions.find(|about| about.contains(&thread) && about.contains("LOCK WAIT"))?;
        Some(waiting.split(',').next()?.to_owned())
    }

    /// Ends a connection, in the middle of whatever it does.
    pub(crate) async fn kill(&self, connection: u64) {
        self.execute(&format!("KILL {connection}")).await;
    }

    pub(crate) async fn clean_up(self) {
        self.execute("DROP TABLE IF EXISTS {table}").await;
    }
}

pub(crate) fn pool(options: &MySqlConnectOptions, connections: u32) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options.clone())
}

/// The server's number of a connection, or of the only one that a pool has.
pub(crate) async fn connection(executor: impl MySqlExecutor<'_>) -> u64 {
    sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS UNSIGNED)")
        .fetch_one(executor)
        .await
        .unwrap()
}
