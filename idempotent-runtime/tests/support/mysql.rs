//! A MySQL or MariaDB server to test on, and a database of one's own on it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use idempotent_runtime::store::conformance::RecordLock;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::{Error, RecordKey};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow};
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, MySqlPool, Row, Transaction};

pub(crate) use crate::claims::{PATIENCE, TTL, answer, chain, claimed, request, rival};
use crate::servers::{Lock, table, url_of};
use crate::sql::{Bench, Locker, sql_store};

const URL: &str = "IDEMPOTENT_TEST_MYSQL_URL";
const DEFAULT_URL: &str = "mysql://root@127.0.0.1:3306/test";

/// A database of its own, by whose name the server tells the connections of the stores in it from all
/// others.
pub(crate) struct Scratch {
    /// How a store connects.
    pub(crate) options: MySqlConnectOptions,
    pub(crate) database: String,
    pub(crate) table: String,
    /// Connections that are in no database.
    pub(crate) admin: MySqlPool,
}

impl Scratch {
    /// `None`, with a line that says so, when there is no server; in continuous integration that
    /// is a failure.
    pub(crate) async fn new() -> Option<Self> {
        let url = url_of::<MySql>(URL, DEFAULT_URL).await?;
        Some(Self::on(&MySqlConnectOptions::from_str(&url).unwrap()).await)
    }

    /// On that server.
    pub(crate) async fn on(server: &MySqlConnectOptions) -> Self {
        let url = sqlx::ConnectOptions::to_url_lossy(server);
        let mut nowhere = url.clone();
        nowhere.set_path("");
        let nowhere = MySqlConnectOptions::from_str(nowhere.as_str()).unwrap();
        let database = table();
        let scratch = Self {
            options: server.clone().database(&database),
            table: "records".to_owned(),
            admin: MySqlPoolOptions::new()
                .max_connections(3)
                .acquire_timeout(PATIENCE)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        let plain = "SET autocommit = 1, sql_mode = '';
                            SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE";
                        sqlx::raw_sql(plain).execute(connection).await.map(drop)
                    })
                })
                .connect_lazy_with(nowhere),
            database,
        };
        let create = format!("CREATE DATABASE {}", scratch.database);
        scratch.execute(&create).await;
        scratch
    }

    /// The same, migrated.
    pub(crate) async fn migrated() -> Option<Self> {
        let scratch = Self::new().await?;
        scratch.store(1).migrate().await.unwrap();
        Some(scratch)
    }

    /// A store with this many connections of its own, as another process would have it.
    pub(crate) fn store(&self, connections: u32) -> MySqlStore {
        self.store_on(&self.options, connections)
    }

    /// The same, connected in another way.
    pub(crate) fn store_on(&self, options: &MySqlConnectOptions, connections: u32) -> MySqlStore {
        MySqlStore::new(pool(options, 2))
            .with_table(&self.table)
            .unwrap()
            .with_connections(connections)
    }

    fn put_into(&self, sql: &str) -> String {
        let table = format!("{}.{}", self.database, self.table);
        sql.replace("{table}", &table)
            .replace("{database}", &self.database)
    }

    /// Runs statements in which `{table}` stands for the table, and `{database}` for the database.
    pub(crate) async fn execute(&self, sql: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(self.put_into(sql)));
        statements.execute(&self.admin).await.unwrap();
    }

    /// The rows of one.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<MySqlRow> {
        let statement = sqlx::raw_sql(AssertSqlSafe(self.put_into(sql)));
        statement.fetch_all(&self.admin).await.unwrap()
    }

    /// A transaction that has run this statement and holds the locks that it took.
    pub(crate) async fn hold(&self, sql: &str) -> Transaction<'static, MySql> {
        let mut transaction = self.admin.begin().await.unwrap();
        self.hold_too(&mut transaction, sql).await;
        transaction
    }

    pub(crate) async fn hold_too(&self, holding: &mut MySqlConnection, sql: &str) {
        let held = sqlx::raw_sql(AssertSqlSafe(self.put_into(sql))).execute(holding);
        tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap();
    }

    /// The server's numbers of the connections of this database's stores, the oldest first.
    pub(crate) async fn connections(&self) -> Vec<u64> {
        let list = "SELECT CAST(ID AS UNSIGNED) FROM information_schema.PROCESSLIST \
                    WHERE DB = '{database}' ORDER BY ID";
        let rows = self.rows(list).await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// That of the only one there is, once the server has noticed that others were closed.
    pub(crate) async fn connection(&self) -> u64 {
        let started = Instant::now();
        loop {
            match self.connections().await[..] {
                [connection] => return connection,
                ref others => assert!(started.elapsed() < PATIENCE, "{others:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
    /// brought up to date only when no session has looked for a tenth of a second.)
    async fn blocked(&self, connection: u64) -> Option<String> {
        let status = self.rows("SHOW ENGINE INNODB STATUS").await;
        let status: &str = status[0].get("Status");
        let thread = format!(" thread id {connection},");
        let mut transactions = status.split("---TRANSACTION ").skip(1);
        let waiting =
            transactions.find(|about| about.contains(&thread) && about.contains("LOCK WAIT"))?;
        Some(waiting.split(',').next()?.to_owned())
    }

    /// Ends a connection, in the middle of whatever it does, and waits until it is gone.
    pub(crate) async fn kill(&self, connection: u64) {
        self.execute(&format!("KILL {connection}")).await;
        let started = Instant::now();
        while self.connections().await.contains(&connection) {
            assert!(started.elapsed() < PATIENCE, "it lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn clean_up(self) {
        self.execute("DROP DATABASE {database}").await;
    }
}

sql_store!(MySqlStore);

#[async_trait]
impl Bench for Scratch {
    type Store = MySqlStore;

    const SCHEMA: u32 = 3;
    const MAKE_NEWER: &'static str =
        "ALTER TABLE {table} MODIFY schema_version TINYINT UNSIGNED NOT NULL DEFAULT 4";
    const DAMAGES: &'static [&'static str] = &[
        "state = 9",
        "response = NULL",
        "response = 'x'",
        "response = ''",
        "response = CONCAT(CHAR(9), SUBSTRING(response, 2))", // a newer version
        "response = SUBSTRING(response, 1, 5)",
    ];

    async fn create() -> Option<Self> {
        Self::new().await
    }

    fn another(&self) -> MySqlStore {
        self.store(1)
    }

    async fn run(&self, sql: &str) {
        self.execute(sql).await;
    }

    async fn remove(self) {
        self.clean_up().await;
    }
}

#[async_trait]
impl Locker for Scratch {
    async fn lock(&self, key: &RecordKey) -> Box<dyn RecordLock> {
        let key = key.to_hex();
        let lock = format!("SELECT 1 FROM {{table}} WHERE record_key = X'{key}' FOR UPDATE");
        Box::new(Lock(self.hold(&lock).await))
    }
}

pub(crate) fn pool(options: &MySqlConnectOptions, connections: u32) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}

/// One with these settings of its sessions.
pub(crate) fn pool_with(
    options: &MySqlConnectOptions,
    connections: u32,
    settings: &'static str,
) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        })
        .connect_lazy_with(options.clone())
}
