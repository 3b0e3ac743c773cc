//! PostgreSQL through tokio-postgres, on a pool of deadpool-postgres.

use std::sync::Arc;

use deadpool_postgres::{Manager, Pool};
use idempotent_runtime::store::Store;
use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
use sqlx::PgConnection;
use tokio_postgres::NoTls;

use super::database::{Database, Done, Ending};

/// The pool of the handlers, and that of a store that no handler uses.
#[derive(Clone)]
pub struct Pools {
    pub deadpool: Pool,
    sqlx: sqlx::PgPool,
}

impl Pools {
    fn store(&self, table: &str) -> PostgresStore {
        let store = PostgresStore::new(self.sqlx.clone()).with_deadpool(self.deadpool.clone());
        store.with_table(table).expect("a name")
    }
}

impl Database for DeadpoolTransaction {
    type Pool = Pools;
    type Observer = PgConnection;

    const SERVER: Option<(&'static str, &'static str)> = PgConnection::SERVER;
    const RECORD_GOES_WITH_COMMIT: bool = true;
    const REMOVE: &'static str = PgConnection::REMOVE;

    async fn connect(url: &str) -> sqlx::Result<PgConnection> {
        <PgConnection as Database>::connect(url).await
    }

    fn pool(url: &str, connections: u32) -> Pools {
        let manager = Manager::new(url.parse().expect("a URL"), NoTls);
        let pool = Pool::builder(manager).max_size(connections.try_into().expect("a number"));
        Pools {
            deadpool: pool.build().expect("a pool"),
            sqlx: PgConnection::pool(url, connections),
        }
    }

    async fn close(pool: &Pools) {
        pool.deadpool.close();
    }

    fn is_idle(pool: &Pools) -> bool {
        let status = pool.deadpool.status();
        status.available == status.size
    }

    async fn transaction(pool: &Pools, sql: &str) {
        let mut client = pool.deadpool.get().await.expect("a connection");
        let transaction = client.transaction().await.expect("a transaction");
        transaction.batch_execute(sql).await.expect("a row");
        transaction.commit().await.expect("a commit");
    }

    fn store(pool: &Pools, table: &str) -> Arc<dyn Store> {
        Arc::new(pool.store(table))
    }

    async fn migrated(pool: &Pools, table: &str) -> Arc<dyn Store> {
        let store = pool.store(table);
        store.migrate().await.expect("a table");
        Arc::new(store)
    }

    async fn execute(&mut self, sql: &str) -> Done {
        Ok(self.batch_execute(sql).await?)
    }

    async fn number(&mut self, sql: &str) -> i64 {
        let row = self.query_one(sql, &[]).await.expect("a row");
        row.get(0)
    }

    /// There is none but a savepoint that the handler sets.
    async fn nested(&mut self, sql: &str, ending: Ending) -> Done {
        self.batch_execute("SAVEPOINT inner_one").await?;
        self.batch_execute(sql).await?;
        let end = match ending {
            Ending::Commit => "RELEASE SAVEPOINT inner_one",
            Ending::RollBack | Ending::Drop => "ROLLBACK TO SAVEPOINT inner_one",
            Ending::Forget | Ending::Cancel | Ending::Refuse | Ending::With => return Ok(()),
        };
        Ok(self.batch_execute(end).await?)
    }
}
