//! Handlers that end their transaction by themselves, and handlers that leave their session changed: what they have committed
//! never happens twice, and no other request meets what they have left.

use idempotent_runtime::Idempotency;
use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
use reqwest::Method;
use sqlx::PgConnection;

use crate::support::{Database, Reply, Scene, on_databases, reply};

/// The first two answers of one key, of which only one handler has run, and what it has paid.
async fn paid_once<C: Database>(scene: &Scene<C>, steps: &str) -> (Reply, Reply) {
    let server = scene.serve(scene.builder(2)).await;
    server.post("/all", "warm", "pay").await.assert_own(201);
    let first = server.post("/all", "key", steps).await;
    let again = server.post("/all", "key", steps).await;
    assert_eq!(server.stage.runs(), 2, "{steps}: {first:?}, {again:?}");
    assert_eq!(scene.payments("key").await, 1, "{steps}: {first:?}");
    scene.execute("DELETE FROM {payments}").await;
    scene.execute("DELETE FROM {records}").await;
    (first, again)
}

/// All that the handler has written is committed.
async fn a_handler_that_has_committed_keeps_its_answer<C: Database>(scene: &Scene<C>) {
    for left in [
        "",
        "sql SET default_transaction_read_only = on",
        "sql SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "sql DEALLOCATE ALL",
        "sql DISCARD ALL",
        "sql DISCARD ALL; answer 402",
        "sql BEGIN; sql SELECT 1 / 0",
    ] {
        let steps = format!("pay; sql COMMIT; {left}");
        let (first, again) = paid_once(scene, &steps).await;
        assert_ne!(first.status, 503, "{steps}: {first:?}");
        assert!(again.is_replay(), "{steps}: {again:?}");
        assert_eq!(
            (first.status, &first.body),
            (again.status, &again.body),
            "{steps}"
        );
    }
}
on_databases!(a_handler_that_has_committed_keeps_its_answer: PgConnection DeadpoolTransaction);

/// What is in a transaction of the handler's own is rolled back with it, so that its answer would not be true.
async fn what_a_handler_has_begun_by_itself_leaves_the_outcome_unknown<C: Database>(
    scene: &Scene<C>,
) {
    scene
        .execute("CREATE TABLE {accounts}_of (name VARCHAR(16) REFERENCES {accounts} (name) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    for begun in [
        "sql BEGIN; try SELECT 1 / 0",
        "sql BEGIN READ ONLY",
        "sql BEGIN; sql INSERT INTO {accounts}_of VALUES ('unknown')",
    ] {
        let steps = format!("pay; sql COMMIT; {begun}; answer 201");
        let (first, again) = paid_once(scene, &steps).await;
        assert_eq!(first.code(), Some("outcome-unknown"), "{steps}: {first:?}");
        assert_eq!(again.code(), Some("outcome-unknown"), "{steps}: {again:?}");
    }
    scene.execute("DROP TABLE {accounts}_of").await;
}
on_databases!(what_a_handler_has_begun_by_itself_leaves_the_outcome_unknown: PgConnection DeadpoolTransaction);

/// There the key is taken by a record in the transaction, which the handler's COMMIT has made one of unknown outcome.
async fn a_record_is_completed_after_a_commit_whatever_the_mode_of_the_session<C: Database>(
    scene: &Scene<C>,
) {
    for left in [
        "sql SET SESSION TRANSACTION READ ONLY",
        "sql START TRANSACTION READ ONLY",
        "sql START TRANSACTION READ WRITE",
    ] {
        let (first, again) = paid_once(scene, &format!("pay; sql COMMIT; {left}")).await;
        first.assert_own(201);
        again.assert_replay_of(&first);
    }
}
on_databases!(a_record_is_completed_after_a_commit_whatever_the_mode_of_the_session: MySqlConnection);

/// Where the record cannot be stored at all, it is not said that nothing has happened.
async fn a_commit_without_any_record_is_not_called_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(2)).await;
    let rename = "sql ALTER TABLE {records} RENAME TO {records}_away";
    let first = server
        .post("/all", "key", &format!("pay; sql COMMIT; {rename}"))
        .await;
    scene
        .execute("ALTER TABLE {records}_away RENAME TO {records}")
        .await;
    assert_eq!(first.code(), Some("outcome-unknown"), "{first:?}");
    assert_eq!(scene.payments("key").await, 1);
}
on_databases!(a_commit_without_any_record_is_not_called_nothing: PgConnection DeadpoolTransaction);

/// Nothing happens, and it is said so.
async fn a_handler_that_makes_its_transaction_useless_pays_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(1)).await;
    server.post("/all", "warm", "pay").await.assert_own(201);
    scene.execute("DELETE FROM {records}").await;
    for steps in [
        "pay; sql DEALLOCATE ALL",
        "pay; sql SET LOCAL transaction_read_only = on",
        "pay; try SELECT 1 / 0; answer 201",
    ] {
        server.post("/all", "key", steps).await.assert_refused();
        scene.assert_nothing("key").await;
        // The connection that it had is closed, or as it was.
        for key in ["one", "two"] {
            server.post("/all", key, "pay").await.assert_own(201);
        }
        scene.execute("DELETE FROM {payments}").await;
        scene.execute("DELETE FROM {records}").await;
    }
}
on_databases!(a_handler_that_makes_its_transaction_useless_pays_nothing: PgConnection DeadpoolTransaction);

async fn a_refused_statement_closes_no_other_connection<C: Database>(scene: &Scene<C>) {
    let name = &scene.tables.records;
    let url = scene.url_with(&format!("application_name={name}"));
    let store = C::store(&C::pool(&url, 4), name);
    let server = scene.serve(Idempotency::builder(store)).await;
    let mut calls = Vec::new();
    for n in 0..3 {
        calls.push(server.spawn("/all", &format!("warm-{n}"), "gate a; pay"));
    }
    for _ in 0..3 {
        server.stage.reached("a").await;
    }
    let backends = format!(
        "CREATE TABLE {{accounts}}_pids AS SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND state = 'idle in transaction'"
    );
    scene.execute(&backends).await;
    for _ in 0..3 {
        server.stage.open("a");
    }
    for call in calls {
        call.await.unwrap().assert_own(201);
    }
    let refused = "try INSERT INTO {accounts} VALUES ('taken', 1); answer 201";
    server.post("/all", "bad", refused).await.assert_refused();
    let mut calls = Vec::new();
    for n in 0..3 {
        calls.push(server.spawn("/all", &format!("again-{n}"), "gate b; pay"));
    }
    for _ in 0..3 {
        server.stage.reached("b").await;
    }
    let reused = "SELECT count(*) FROM {accounts}_pids JOIN pg_stat_activity USING (pid) WHERE state = 'idle in transaction'";
    let reused = scene.number(reused).await;
    for _ in 0..3 {
        server.stage.open("b");
    }
    for call in calls {
        call.await.unwrap().assert_own(201);
    }
    scene.execute("DROP TABLE {accounts}_pids").await;
    // One may not have been back in time, and another was opened in its place.
    assert!(reused >= 2, "{reused}");
}
on_databases!(a_refused_statement_closes_no_other_connection: PgConnection DeadpoolTransaction);

/// On the pool's only connection.
async fn a_session_that_was_changed_without_a_key_is_not_used_again<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(1)).await;
    let change = match C::STORE {
        "postgres" => "SET search_path TO pg_catalog",
        "mysql" => "SET SESSION TRANSACTION READ ONLY",
        _ => "PRAGMA query_only = ON",
    };
    for end in ["", "answer 402"] {
        // What is set in a transaction of PostgreSQL goes with that.
        let commit = match C::STORE {
            "postgres" if !end.is_empty() => "sql COMMIT",
            _ => "",
        };
        let steps = format!("sql {change}; {commit}; {end}");
        let first = reply(server.keyless(Method::POST, "/optional", &steps)).await;
        assert_ne!(first.status, 503, "{first:?}");
        let key = format!("key-{}", end.len());
        server.post("/all", &key, "pay").await.assert_own(201);
    }
}
on_databases!(a_session_that_was_changed_without_a_key_is_not_used_again);

async fn a_limit_of_a_session_ends_with_the_request_that_has_set_it<C: Database>(scene: &Scene<C>) {
    let version = "SELECT current_setting('server_version_num')::bigint";
    if scene.number(version).await < 140_000 {
        return;
    }
    let server = scene.serve(scene.builder(1)).await;
    let set = "sql SET idle_session_timeout = '1h'; pay";
    server.post("/all", "one", set).await.assert_own(201);
    let found = "sql INSERT INTO {accounts} VALUES (current_setting('idle_session_timeout'), 1)";
    server.post("/all", "two", found).await.assert_own(201);
    let left = "SELECT count(*) FROM {accounts} WHERE name = '1h'";
    assert_eq!(scene.number(left).await, 0);
}
on_databases!(a_limit_of_a_session_ends_with_the_request_that_has_set_it: PgConnection DeadpoolTransaction);

/// Within the transaction the one hides the other.
#[tokio::test]
async fn a_change_of_the_session_behind_one_of_the_transaction_is_found() {
    let Some(scene) = Scene::<DeadpoolTransaction>::new().await else {
        return;
    };
    let server = scene.serve(scene.builder(1)).await;
    let hidden =
        "sql SET search_path TO pg_catalog; sql SET LOCAL search_path TO \"$user\", public; pay";
    server.post("/all", "one", hidden).await.assert_own(201);
    server.post("/all", "two", "pay").await.assert_own(201);
    scene.clean_up().await;
}

async fn a_handler_cannot_pretend_that_a_key_is_taken<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(1)).await;
    let pretend = "sql SET idempotent.is_taken = 'true'; pay";
    server.post("/all", "one", pretend).await.assert_own(201);
    server.post("/all", "two", "pay").await.assert_own(201);
}
on_databases!(a_handler_cannot_pretend_that_a_key_is_taken: PgConnection DeadpoolTransaction);

/// Found at the start, and not after the first payment's handler has run.
#[tokio::test]
async fn a_pool_that_may_not_write_records_is_found() {
    let Some(scene) = Scene::<DeadpoolTransaction>::new().await else {
        return;
    };
    let role = scene.tables.records.replace("records", "poor");
    scene
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON {{records}} TO {role}"
        ))
        .await;
    let poor = scene.url.replace("postgres@", &format!("{role}@"));
    assert_ne!(poor, scene.url);
    let pools = DeadpoolTransaction::pool(&poor, 1);
    let sqlx = <PgConnection as Database>::pool(&scene.url, 1);
    let store = PostgresStore::new(sqlx).with_deadpool(pools.deadpool.clone());
    let store = store.with_table(&scene.tables.records).unwrap();
    let found = Idempotency::new(store)
        .transactions::<DeadpoolTransaction>()
        .await;
    let by_sqlx = sqlx::postgres::PgPoolOptions::new().max_connections(1);
    let become_poor = format!("SET ROLE {role}");
    let by_sqlx = by_sqlx.after_connect(move |connection, _| {
        let become_poor = become_poor.clone();
        Box::pin(async move {
            let become_poor = sqlx::raw_sql(sqlx::AssertSqlSafe(become_poor));
            become_poor.execute(connection).await.map(drop)
        })
    });
    let store = PostgresStore::new(by_sqlx.connect_lazy(&scene.url).unwrap());
    let store = store.with_table(&scene.tables.records).unwrap();
    let found_by_sqlx = Idempotency::new(store).transactions::<PgConnection>().await;
    DeadpoolTransaction::close(&pools).await;
    for error in [found.err(), found_by_sqlx.err()] {
        let error = format!("{:?}", error.expect("an error"));
        assert!(error.contains("GRANT SELECT, INSERT, UPDATE"), "{error}");
    }
    scene
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    scene.clean_up().await;
}

/// Its own answer goes out, and a retry finds that nothing is known.
async fn a_handler_that_has_committed_and_whose_answer_is_not_stored_is_not_run_again<
    C: Database,
>(
    scene: &Scene<C>,
) {
    for (key, end) in [("one", "panic"), ("two", "answer 500")] {
        let server = scene.serve(scene.builder(2)).await;
        let steps = format!("pay; sql COMMIT; {end}");
        let first = server.post("/none", key, &steps).await;
        assert_eq!(first.status, 500, "{first:?}");
        let again = server.post("/none", key, &steps).await;
        again.assert_code(409, "outcome-unknown");
        assert_eq!((server.stage.runs(), scene.payments(key).await), (1, 1));
    }
}
on_databases!(a_handler_that_has_committed_and_whose_answer_is_not_stored_is_not_run_again: PgConnection DeadpoolTransaction MySqlConnection);

/// The server is there, and knows what has become of the transaction.
async fn a_handler_that_has_committed_and_lost_its_connection_is_not_run_again<C: Database>(
    scene: &Scene<C>,
) {
    for end in [
        "answer 201",
        "answer 402",
        "answer 500",
        "panic",
        "release 503",
    ] {
        let server = scene.serve(scene.builder(2)).await;
        let lost = "pay; sql COMMIT; try SELECT pg_terminate_backend(pg_backend_pid())";
        let (steps, key) = (format!("{lost}; {end}"), end.replace(' ', "-"));
        let first = server.post("/all", &key, &steps).await;
        assert_ne!(first.code(), Some("store-unavailable"), "{end}: {first:?}");
        server.post("/all", &key, &steps).await;
        assert_eq!(scene.payments(&key).await, 1, "{end}: {first:?}");
    }
}
on_databases!(a_handler_that_has_committed_and_lost_its_connection_is_not_run_again: PgConnection DeadpoolTransaction);
