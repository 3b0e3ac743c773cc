//! A PostgreSQL server to test on, and a table of one's own on it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use idempotent_runtime::store::ClaimRequest;
use idempotent_runtime::store::conformance::RecordLock;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::{Error, RecordKey};
use sqlx::postgres::{PgConnectOptions, PgExecutor, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, Postgres};

pub(crate) use crate::claims::{PATIENCE, TTL, answer, chain, claimed, request, rival};
pub(crate) use crate::servers::skip;
use crate::servers::{Lock, table, url_of};
use crate::sql::{Bench, Locker, sql_store};

const URL: &str = "IDEMPOTENT_TEST_POSTGRES_URL";
const DEFAULT_URL: &str = "postgres://postgres@127.0.0.1:5432/test";

/// The server's URL, if it is there.
pub(crate) async fn server() -> Option<String> {
    url_of::<Postgres>(URL, DEFAULT_URL).await
}

/// A table name of its own, and connections to its database.
pub(crate) struct Scratch {
    /// As anybody would connect.
    pub(crate) server: PgConnectOptions,
    pub(crate) options: PgConnectOptions,
    pub(crate) table: String,
    pub(crate) admin: PgPool,
}

impl Scratch {
    /// `None` when there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let server = PgConnectOptions::from_str(&server().await?).unwrap();
        let table = table();
        // The store's connections are known by the name, and wait for locks as long as a test may take.
        let limits = [("lock_timeout", "30s"), ("statement_timeout", "60s")];
        let options = server.clone().application_name(&table).options(limits);
        Some(Self {
            admin: pool(&server, 2),
            server,
            options,
            table,
        })
    }

    /// The same, migrated.
    pub(crate) async fn migrated() -> Option<Self> {
        let scratch = Self::new().await?;
        scratch.store(1).migrate().await.unwrap();
        Some(scratch)
    }

    /// A store with a pool of its own, as another process would have it.
    pub(crate) fn store(&self, connections: u32) -> PostgresStore {
        self.store_on(pool(&self.options, connections))
    }

    pub(crate) fn store_on(&self, pool: PgPool) -> PostgresStore {
        PostgresStore::new(pool).with_table(&self.table).unwrap()
    }

    pub(crate) fn pool(&self, connections: u32) -> PgPool {
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

    /// Waits until that many backends wait for what this backend holds.
    pub(crate) async fn until_blocked_by(&self, holder: i32, how_many: i64) {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        let started = Instant::now();
        loop {
            let blocked: i64 = sqlx::query_scalar(count)
                .bind(holder)
                .fetch_one(&self.admin)
                .await
                .unwrap();
            if blocked >= how_many {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "only {blocked} wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no more than that many backends wait for what this backend holds.
    pub(crate) async fn until_blocked_by_at_most(&self, holder: i32, how_many: i64) {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        let started = Instant::now();
        while how_many
            < sqlx::query_scalar::<_, i64>(count)
                .bind(holder)
                .fetch_one(&self.admin)
                .await
                .unwrap()
        {
            assert!(started.elapsed() < PATIENCE, "more wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends a backend.
    pub(crate) async fn kill(&self, victim: i32) {
        let gone = "SELECT pg_terminate_backend($1)";
        let killed: bool = sqlx::query_scalar(gone)
            .bind(victim)
            .fetch_one(&self.admin)
            .await
            .unwrap();
        assert!(killed, "no such backend");
    }

    /// The backends of the store's connections, but for those that listen.
    pub(crate) async fn backends(&self) -> Vec<i32> {
        let backends = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 \
            AND query NOT LIKE 'LISTEN%' ORDER BY backend_start";
        sqlx::query_scalar(backends)
            .bind(&self.table)
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }

    /// How many connections of that name there are.
    pub(crate) async fn backends_of(&self, name: &str) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        sqlx::query_scalar(count)
            .bind(name)
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    /// Waits until the store has that many connections.
    pub(crate) async fn until_backends(&self, how_many: usize) {
        let started = Instant::now();
        loop {
            let backends = self.backends().await.len();
            if backends == how_many {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{backends} connections");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The backends that listen to the table's channel.
    pub(crate) async fn listeners(&self) -> Vec<i32> {
        let listen = format!(r#"LISTEN "{}_done"%"#, self.table);
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE query LIKE $1")
            .bind(listen)
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }

    /// Whether the record has the mark of those who wait.
    pub(crate) async fn is_marked(&self, request: &ClaimRequest<'_>) -> bool {
        let waited = format!(
            r#"SELECT waited FROM "{}" WHERE record_key = $1"#,
            self.table
        );
        sqlx::query_scalar(AssertSqlSafe(waited))
            .bind(&request.owner.key.as_bytes()[..])
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    /// Waits until the record has the mark.
    pub(crate) async fn until_marked(&self, request: &ClaimRequest<'_>) {
        let started = Instant::now();
        while !self.is_marked(request).await {
            assert!(started.elapsed() < PATIENCE, "it is not marked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn clean_up(self) {
        self.execute(
            r#"DROP TABLE IF EXISTS "{table}"; DROP FUNCTION IF EXISTS "{table}_claim", "{table}_complete", "{table}_group", "{table}_save_progress", "{table}_wait", "{table}_tell""#,
        )
        .await;
    }
}

sql_store!(PostgresStore);

#[async_trait]
impl Bench for Scratch {
    type Store = PostgresStore;

    const SCHEMA: u32 = 4;
    const MAKE_NEWER: &'static str = "ALTER TABLE {table} ALTER schema_version SET DEFAULT 5";
    const DAMAGES: &'static [&'static str] = &[
        "state = 3",
        r"response = '\x09'::bytea || substring(response FROM 2)", // a newer version
        "response = substring(response FROM 1 FOR 5)",
        "response = ''",
        "response = NULL",
        "fingerprint = substring(fingerprint FROM 2)",
    ];

    async fn create() -> Option<Self> {
        Self::new().await
    }

    fn another(&self) -> PostgresStore {
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
        let mut transaction = self.admin.begin().await.unwrap();
        let lock = format!(
            r#"SELECT 1 FROM "{}" WHERE record_key = $1 FOR UPDATE"#,
            self.table
        );
        sqlx::query(AssertSqlSafe(lock))
            .bind(&key.as_bytes()[..])
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        Box::new(Lock(transaction))
    }
}

pub(crate) fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(options.clone())
}

/// The backend that a connection, or the only one of a pool, has.
pub(crate) async fn backend(executor: impl PgExecutor<'_>) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(executor)
        .await
        .unwrap()
}
