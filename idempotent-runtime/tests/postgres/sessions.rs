//! Handlers that change their session: the record is written all the same, and the connection is not reused.

use std::time::{Duration, Instant};

use idempotent_runtime::store::{Store as _, StoreErrorKind};
use sqlx::{AssertSqlSafe, PgPool};

use crate::sql::Locker as _;
use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool};
use crate::till::Till;

const TIME_OUT: Duration = Duration::from_secs(10);

struct Tenant {
    scratch: Scratch,
    till: Till,
    pool: PgPool,
    /// A role that can reach nothing but the tenant's schema of the same name.
    name: String,
}

impl Tenant {
    async fn new() -> Option<Self> {
        let scratch = Scratch::new().await?;
        // The records in a schema that the tenant cannot even look into.
        let name = format!("{}_tenant", scratch.table);
        scratch
            .execute(&format!(
                r#"CREATE SCHEMA "{{table}}"; CREATE ROLE "{name}"; CREATE SCHEMA "{name}" AUTHORIZATION "{name}";
                CREATE TABLE "{name}".payments (key text); ALTER TABLE "{name}".payments OWNER TO "{name}";
                CREATE TABLE "{name}".idempotency_records (id integer)"#
            ))
            .await;
        // The limit is another one within a transaction of the store's, and this one again afterwards.
        let options = scratch.server.clone().options([
            ("search_path", &*scratch.table),
            ("idle_in_transaction_session_timeout", "5min"),
        ]);
        let pool = pool(&options, 1);
        let store = idempotent_runtime::store::postgres::PostgresStore::new(pool.clone());
        store.migrate().await.unwrap();
        let till = Till::open(store, pool.clone(), TIME_OUT).await;
        Some(Self {
            scratch,
            till,
            pool,
            name,
        })
    }

    /// Once, with a retry that is a replay.
    async fn pays_once(&self, key: &str, session: &str) {
        let session = session.replace("{tenant}", &self.name);
        let pay = format!(
            r#"{session}; INSERT INTO "{}".payments VALUES ('{key}')"#,
            self.name
        );
        let runs = self.till.runs();
        let first = self.till.post("/pay", key, &pay).await;
        assert_eq!(first.status, 201, "{session}: {}", first.text);
        for _ in 0..2 {
            let retry = self.till.post("/pay", key, &pay).await;
            assert!(retry.is_replay(), "{session}: {}", retry.text);
        }
        assert_eq!(self.till.runs(), runs + 1, "{session}");
        let paid = format!(
            r#"SELECT count(*) FROM "{}".payments WHERE key = $1"#,
            self.name
        );
        let paid: i64 = sqlx::query_scalar(AssertSqlSafe(paid))
            .bind(key)
            .fetch_one(&self.scratch.admin)
            .await
            .unwrap();
        assert_eq!(paid, 1, "{session}");
    }

    /// When it is back in the pool.
    async fn backend(&self) -> i32 {
        let started = Instant::now();
        while self.pool.num_idle() != self.pool.size() as usize {
            assert!(started.elapsed() < PATIENCE, "it never comes back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        crate::support::backend(&self.pool).await
    }

    async fn setting(&self, name: &str) -> String {
        let setting = sqlx::query_scalar("SELECT current_setting($1)").bind(name);
        setting.fetch_one(&self.pool).await.unwrap()
    }

    async fn clean_up(self) {
        self.pool.close().await;
        let name = &self.name;
        self.scratch
            .execute(&format!(
                r#"DROP SCHEMA "{{table}}" CASCADE; DROP SCHEMA "{name}" CASCADE; DROP ROLE "{name}""#
            ))
            .await;
    }
}

/// Row-level security, a schema for each tenant, limits for one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_may_change_its_transaction_and_the_connection_is_reused() {
    let Some(tenant) = Tenant::new().await else {
        return;
    };
    tenant.pays_once("plain", "SELECT 1").await;
    let backend = tenant.backend().await;
    for (place, session) in [
        r#"SET LOCAL ROLE "{tenant}""#,
        r#"SET LOCAL search_path TO "{tenant}""#,
        r#"SET LOCAL ROLE "{tenant}"; SET LOCAL search_path TO "{tenant}"; SET LOCAL row_security = off"#,
        r#"SET LOCAL SESSION AUTHORIZATION "{tenant}""#,
        "SET LOCAL statement_timeout = '1h'; SET LOCAL lock_timeout = '1h'",
        "SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = off",
        "SELECT set_config('search_path', '', true)",
    ]
    .into_iter()
    .enumerate()
    {
        tenant.pays_once(&format!("key-{place}"), session).await;
        assert_eq!(tenant.backend().await, backend, "{session}");
    }
    tenant.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_that_leaves_its_session_changed_pays_once_and_its_connection_is_closed() {
    let Some(tenant) = Tenant::new().await else {
        return;
    };
    for (place, (session, setting)) in [
        (r#"SET search_path TO "{tenant}""#, "search_path"),
        (r#"SET ROLE "{tenant}""#, "role"),
        (
            r#"SET SESSION AUTHORIZATION "{tenant}""#,
            "session_authorization",
        ),
        ("SET lock_timeout = '1ms'", "lock_timeout"),
        ("SET statement_timeout = '1min'", "statement_timeout"),
        (
            "SET default_transaction_read_only = on",
            "default_transaction_read_only",
        ),
        (
            "SET session_replication_role = replica",
            "session_replication_role",
        ),
        ("SET row_security = off", "row_security"),
        // The limit of the store's transaction does not hide it.
        (
            "SET idle_in_transaction_session_timeout = '20min'",
            "idle_in_transaction_session_timeout",
        ),
        ("SELECT set_config('search_path', '', false)", "search_path"),
        // A handler that ends its transaction by itself: both are there, though not together.
        (r#"COMMIT; SET ROLE "{tenant}""#, "role"),
    ]
    .into_iter()
    .enumerate()
    {
        tenant.backend().await;
        let before = tenant.setting(setting).await;
        tenant.pays_once(&format!("key-{place}"), session).await;
        tenant.backend().await;
        assert_eq!(tenant.setting(setting).await, before, "{session}");
    }
    tenant.clean_up().await;
}

/// Others use the pool too, and leave its connections as they like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_somebody_has_left_with_another_role_is_not_used() {
    let Some(tenant) = Tenant::new().await else {
        return;
    };
    for (place, session) in [
        r#"SET ROLE "{tenant}""#,
        r#"SET search_path TO "{tenant}""#,
        "SET default_transaction_read_only = on",
    ]
    .into_iter()
    .enumerate()
    {
        let leak = session.replace("{tenant}", &tenant.name);
        sqlx::raw_sql(AssertSqlSafe(leak))
            .execute(&tenant.pool)
            .await
            .unwrap();
        tenant.pays_once(&format!("key-{place}"), "SELECT 1").await;
    }
    tenant.clean_up().await;
}

/// `deadlock_timeout` has `lock_timeout` in its name, and took the store's limit away.
#[tokio::test]
async fn another_setting_of_a_similar_name_takes_no_limit_away() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let options = scratch.server.clone().options([("deadlock_timeout", "2s")]);
    let store = scratch.store_on(pool(&options, 2));
    let running = claimed(&store).await;
    let lock = scratch.lock(&running.owner.key).await;
    let error = store.complete(&running.owner, &answer(), TTL).await;
    lock.unlock().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
    scratch.clean_up().await;
}
