//! What the tests need of each of the three databases, through sqlx, and of PostgreSQL through tokio-postgres too.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Store, TransactionConnection};
use sqlx::pool::PoolOptions;
use sqlx::{
    AssertSqlSafe, Connection, MySql, MySqlConnection, PgConnection, Postgres, Sqlite,
    SqliteConnection,
};

/// How a transaction within the handler's transaction ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    Commit,
    RollBack,
    /// Without either, as by `?`.
    Drop,
    /// Without even being dropped.
    Forget,
    /// Dropped before it has begun, as by a timeout.
    Cancel,
    /// Not begun at all, because the database has refused a statement before.
    Refuse,
    /// Not begun at all, because sqlx takes no statement of the handler's for one within another.
    With,
}

pub trait Database: TransactionConnection {
    type Pool: Clone + Send + Sync + 'static;

    /// A connection of its own, to look at what is committed.
    type Observer: Database<Observer = Self::Observer>;

    /// The variable that names the server, and where it is otherwise; `None` for a file.
    const SERVER: Option<(&'static str, &'static str)>;
    /// Whether the record is sent together with `COMMIT`: then a connection that is lost at that time leaves open what has
    /// become of them.
    const RECORD_GOES_WITH_COMMIT: bool = false;
    /// What a store has made besides its table, to be removed.
    const REMOVE: &'static str;

    fn connect(url: &str) -> impl Future<Output = sqlx::Result<Self::Observer>> + Send;

    fn pool(url: &str, connections: u32) -> Self::Pool;

    fn close(pool: &Self::Pool) -> impl Future<Output = ()> + Send;

    /// Whether all of its connections are there.
    fn is_idle(pool: &Self::Pool) -> bool;

    /// One statement in a transaction, as an application without idempotency would have it.
    fn transaction(pool: &Self::Pool, sql: &str) -> impl Future<Output = ()> + Send;

    /// A store in a table that need not be there.
    fn store(pool: &Self::Pool, table: &str) -> Arc<dyn Store>;

    /// The same, migrated.
    fn migrated(pool: &Self::Pool, table: &str) -> impl Future<Output = Arc<dyn Store>> + Send;

    fn execute(&mut self, sql: &str) -> impl Future<Output = Done> + Send;

    fn number(&mut self, sql: &str) -> impl Future<Output = i64> + Send;

    /// One statement in a transaction within this one.
    fn nested(&mut self, sql: &str, ending: Ending) -> impl Future<Output = Done> + Send;
}

pub type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

macro_rules! database {
    ($connection:ty, $sqlx:ty, $store:ty, $server:expr, $remove:expr) => {
        impl Database for $connection {
            type Pool = sqlx::Pool<$sqlx>;
            type Observer = Self;

            const SERVER: Option<(&'static str, &'static str)> = $server;
            const REMOVE: &'static str = $remove;

            async fn connect(url: &str) -> sqlx::Result<Self> {
                <Self as Connection>::connect(url).await
            }

            fn pool(url: &str, connections: u32) -> Self::Pool {
                PoolOptions::new()
                    .max_connections(connections)
                    .acquire_timeout(Duration::from_secs(30))
                    .test_before_acquire(false)
                    .connect_lazy(url)
                    .expect("a URL")
            }

            async fn close(pool: &Self::Pool) {
                pool.close().await;
            }

            fn is_idle(pool: &Self::Pool) -> bool {
                pool.num_idle() == usize::try_from(pool.size()).expect("a number")
            }

            async fn transaction(pool: &Self::Pool, sql: &str) {
                let mut transaction = pool.begin().await.expect("a transaction");
                transaction.execute(sql).await.expect("a row");
                transaction.commit().await.expect("a commit");
            }

            fn store(pool: &Self::Pool, table: &str) -> Arc<dyn Store> {
                Arc::new(
                    <$store>::new(pool.clone())
                        .with_table(table)
                        .expect("a name"),
                )
            }

            async fn migrated(pool: &Self::Pool, table: &str) -> Arc<dyn Store> {
                let store = <$store>::new(pool.clone())
                    .with_table(table)
                    .expect("a name");
                store.migrate().await.expect("a table");
                Arc::new(store)
            }

            async fn execute(&mut self, sql: &str) -> Done {
                let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                statement.execute(&mut *self).await?;
                Ok(())
            }

            async fn number(&mut self, sql: &str) -> i64 {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                query.fetch_one(&mut *self).await.expect("a number")
            }

            async fn nested(&mut self, sql: &str, ending: Ending) -> Done {
                if let Ending::Cancel = ending {
                    // A server that is quick can have replied already.
                    while let Some(begun) = Connection::begin(self).now_or_never() {
                        begun?.rollback().await?;
                    }
                    return Ok(());
                }
                if let Ending::With = ending {
                    let inner = Connection::begin_with(self, "BEGIN").await;
                    return inner.map_or(Ok(()), |_| Err("begun".into()));
                }
                let inner = Connection::begin(self).await;
                if let (Ending::Refuse, Err(_)) = (ending, &inner) {
                    return Ok(());
                }
                let mut inner = inner?;
                let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                statement.execute(&mut *inner).await?;
                match ending {
                    Ending::Commit => inner.commit().await?,
                    Ending::RollBack => inner.rollback().await?,
                    Ending::Drop => drop(inner),
                    Ending::Forget => mem::forget(inner),
                    Ending::Cancel | Ending::With => {}
                    Ending::Refuse => inner.rollback().await?,
                }
                Ok(())
            }
        }
    };
}

database!(
    PgConnection,
    Postgres,
    PostgresStore,
    Some((
        "IDEMPOTENT_TEST_POSTGRES_URL",
        "postgres://postgres@127.0.0.1:5432/test"
    )),
    r#"DROP FUNCTION IF EXISTS "{records}_claim", "{records}_complete""#
);
database!(SqliteConnection, Sqlite, SqliteStore, None, "");
database!(
    MySqlConnection,
    MySql,
    MySqlStore,
    Some((
        "IDEMPOTENT_TEST_MYSQL_URL",
        "mysql://root@127.0.0.1:3306/test"
    )),
    ""
);
