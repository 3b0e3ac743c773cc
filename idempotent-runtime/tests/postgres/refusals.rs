//! Servers that refuse for a while: read-only, restarted, with another password, another isolation level, or
//! with a table that was altered. On servers of their own, because of what is done to them.

use std::time::{Duration, Instant};

use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Claim, Completion, Store, StoreErrorKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::own_server::OwnServer;
use crate::support::{PATIENCE, TTL, answer, claimed, pool, request, rival};
use crate::till::Till;

const TIME_OUT: Duration = Duration::from_secs(2);

/// By a connection that is not kept.
async fn execute(options: &PgConnectOptions, statement: &str) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    let executing = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection);
    executing.await.unwrap();
    connection.close().await.unwrap();
}

async fn migrated(options: &PgConnectOptions, connections: u32) -> PostgresStore {
    let store = PostgresStore::new(pool(options, connections));
    store.migrate().await.unwrap();
    store
}

/// Only new sessions are read-only, and later only new ones are not: connections from in between would stay
/// so for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_that_was_read_only_for_a_while_is_refused_for_as_long() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let options = server.options();

    let read_only = |on: &str| {
        format!(
            "ALTER DATABASE postgres SET default_transaction_read_only = {on}; \
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
            AND pid <> pg_backend_pid()"
        )
    };
    let shared = pool(&options, 4);
    let store = PostgresStore::new(shared.clone());
    store.migrate().await.unwrap();
    let running = claimed(&store).await;
    let direct = PostgresStore::new(shared.clone());
    let till = Till::open(store, shared, TIME_OUT).await;
    execute(&options, &read_only("on")).await;
    let error = direct
        .complete(&running.owner, &answer(), TTL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    for key in 0..6 {
        let refused = till.post("/pay", &format!("r{key}"), "SELECT 1").await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        let refused = till.post("/hold", &format!("h{key}"), "0").await;
        assert_eq!(refused.status, 503, "{}", refused.text);
    }
    execute(
        &options
            .clone()
            .options([("default_transaction_read_only", "off")]),
        "ALTER DATABASE postgres SET default_transaction_read_only = off",
    )
    .await;
    for key in 0..6 {
        let held = till.post("/hold", &format!("h{key}"), "0").await;
        assert_eq!(held.status, 200, "{}", held.text);

        let paid = till.post("/pay", &format!("r{key}"), "SELECT 1").await;
        assert_eq!(paid.status, 201, "{}", paid.text);
    }
    let completed = direct
        .complete(&running.owner, &answer(), TTL)
        .await
        .unwrap();
    assert_eq!(completed, Completion::Stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_by_default_fails_no_unrelated_request() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let options = server.options();
    execute(
        &options,
        "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'",
    )
    .await;
    let store = std::sync::Arc::new(migrated(&options, 10).await);
    let callers = (0..16).map(|_| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..60 {
                let claim = claimed(&*store).await;
                store.complete(&claim.owner, &answer(), TTL).await.unwrap();
                let replay = store.claim(&rival(&claim)).await.unwrap();
                assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

/// The pool of the module's documentation, and its connections all ended while they are idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_were_ended_answer_no_503() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let options = server.options();
    let shared = PgPoolOptions::new()
        .max_connections(5)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone());
    let store = PostgresStore::new(shared.clone());
    store.migrate().await.unwrap();
    let till = Till::open(store, shared, TIME_OUT).await;
    for round in 0..3 {
        for (path, key, status) in [("/pay", "p", 201), ("/hold", "h", 200)] {
            for again in 0..4 {
                let key = format!("{key}-{round}-{again}");
                let body = if path == "/pay" { "SELECT 1" } else { "0" };
                let answer = till.post(path, &key, body).await;
                assert_eq!(answer.status, status, "{key}: {}", answer.text);
            }
        }
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        execute(&options, all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_was_restarted_is_used_again_at_once() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let store = migrated(&server.options(), 4).await;
    let claim = claimed(&store).await;
    server.stop();
    let error = store
        .complete(&claim.owner, &answer(), TTL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = store.claim(&request()).await.unwrap_err();
    assert!(!error.may_have_happened(), "{error:?}");
    server.start_again();
    let completed = store.complete(&claim.owner, &answer(), TTL).await.unwrap();
    assert_eq!(completed, Completion::Stored);
    claimed(&store).await;
}

/// The application gives its pool the new password; the sessions of the old one are ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_that_was_changed_refuses_until_the_pool_has_it() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let options = server.options();
    execute(
        &options,
        "ALTER ROLE postgres PASSWORD 'old'; CREATE ROLE operator SUPERUSER LOGIN PASSWORD 'x'",
    )
    .await;
    server.ask_for_passwords();
    execute(&options, "SELECT pg_reload_conf()").await;
    let operator = options.clone().username("operator").password("x");
    let shared = pool(&options.clone().password("old"), 2);
    let store = PostgresStore::new(shared.clone());
    store.migrate().await.unwrap();
    let claim = claimed(&store).await;
    execute(
        &operator,
        "ALTER ROLE postgres PASSWORD 'new'; SELECT pg_terminate_backend(pid) \
            FROM pg_stat_activity WHERE usename = 'postgres'",
    )
    .await;
    let started = Instant::now();
    // The server reads its settings anew in its own time.
    let error = loop {
        match store.complete(&claim.owner, &answer(), TTL).await {
            Err(error) => break error,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "it asks for no password"),
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    shared.set_connect_options(options.clone().password("new"));
    let completed = store.complete(&claim.owner, &answer(), TTL).await.unwrap();
    assert_eq!(completed, Completion::Stored);
}

/// "cached plan must not change result type", on all connections that have prepared it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn table_that_was_altered_fails_no_call() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let options = server.options();
    let store = migrated(&options, 4).await;
    let claim = claimed(&store).await;
    for _ in 0..8 {
        store.get(&claim.owner.key).await.unwrap();
        store.claim(&rival(&claim)).await.unwrap();
    }
    execute(
        &options,
        "ALTER TABLE idempotency_records ALTER operation TYPE varchar(300), ALTER attempt TYPE bigint; \
            ALTER TABLE idempotency_records ALTER attempt TYPE integer, ADD note text",
    )
    .await;
    store.get(&claim.owner.key).await.unwrap();
    let found = store.claim(&rival(&claim)).await.unwrap();
    assert!(matches!(found, Claim::InFlight { .. }), "{found:?}");
    let completed = store.complete(&claim.owner, &answer(), TTL).await.unwrap();
    assert_eq!(completed, Completion::Stored);
    let replay = store.claim(&rival(&claim)).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
}

/// Nor does it fail their transactions, as far as the records are what they have in common; and levels whose
/// snapshot is older than the lock find the record of the transaction that had the lock before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_isolation_by_default_fails_no_unrelated_transaction() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    for level in ["serializable", "repeatable read"] {
        let alter =
            format!("ALTER DATABASE postgres SET default_transaction_isolation = '{level}'");
        execute(&server.options(), &alter).await;
        let shared = pool(&server.options(), 10);
        let store = PostgresStore::new(shared.clone());
        store.migrate().await.unwrap();
        let till = std::sync::Arc::new(Till::open(store, shared, TIME_OUT).await);
        let callers = (0..10).map(|caller| {
            let till = std::sync::Arc::clone(&till);
            tokio::spawn(async move {
                for round in 0..30 {
                    let key = format!("{}-{caller}-{round}", level.len());
                    let first = till.post("/pay", &key, "SELECT 1").await;
                    assert_eq!(first.status, 201, "{level}: {}", first.text);
                    assert!(till.post("/pay", &key, "SELECT 1").await.is_replay());
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        assert_eq!(till.runs(), 300);
    }
}
