//! Handlers that never end: what they hold is given back after the timeout, whether or not their clients
//! are still there.

use std::time::Duration;

use reqwest::Method;

use crate::support::{Database, Scene, Server, on_databases, reply};

const TIMEOUT: Duration = Duration::from_millis(500);

async fn server<C: Database>(scene: &Scene<C>) -> Server<C> {
    let builder = scene.builder(2).transaction_timeout(TIMEOUT);
    scene.serve(builder).await
}

async fn a_handler_that_hangs_after_its_client_has_left_frees_its_key<C: Database>(
    scene: &Scene<C>,
) {
    let server = server(scene).await;
    let client = server.spawn("/all", "hangs", "pay; once gate a");
    server.stage.reached("a").await;
    client.abort();
    // On SQLite every writer waits for it, and none for ever.
    let other = server.settled("/all", "other", "pay").await;
    other.assert_own(201);
    let again = server.settled("/all", "hangs", "pay; once gate a").await;
    again.assert_own(201);
    assert_eq!(scene.payments("hangs").await, 1);
    assert_eq!(
        (scene.payments("other").await, scene.records().await),
        (1, 2)
    );
}
on_databases!(a_handler_that_hangs_after_its_client_has_left_frees_its_key);

async fn a_handler_that_hangs_is_answered_and_has_done_nothing<C: Database>(scene: &Scene<C>) {
    let server = server(scene).await;
    let refused = server.post("/all", "key", "pay; once gate a").await;
    refused.assert_refused();
    scene.assert_nothing("key").await;
    let again = server.settled("/all", "key", "pay; once gate a").await;
    again.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_handler_that_hangs_is_answered_and_has_done_nothing);

/// SQLite runs statements on a thread that cannot be dropped.
async fn a_statement_that_never_ends_is_interrupted<C: Database>(scene: &Scene<C>) {
    let server = server(scene).await;
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let steps = format!("pay; sql {endless}");
    for key in ["one", "two"] {
        server.post("/all", key, &steps).await.assert_refused();
        let other = format!("after-{key}");
        let other = server.post("/all", &other, "pay").await;
        other.assert_own(201);
        assert_eq!(scene.payments(key).await, 0);
    }
}
on_databases!(a_statement_that_never_ends_is_interrupted: SqliteConnection);

/// It has committed, so that "nothing was done" would be untrue.
async fn a_handler_that_commits_by_itself_and_hangs_is_called_unknown<C: Database>(
    scene: &Scene<C>,
) {
    let server = server(scene).await;
    let steps = "pay; sql COMMIT; once gate a";
    let first = server.post("/all", "key", steps).await;
    first.assert_code(409, "outcome-unknown");
    let again = server.post("/all", "key", steps).await;
    again.assert_code(409, "outcome-unknown");
    assert_eq!(scene.payments("key").await, 1);
}
on_databases!(a_handler_that_commits_by_itself_and_hangs_is_called_unknown: PgConnection DeadpoolTransaction MySqlConnection);

/// The connection cannot be asked while the statement runs.
async fn a_handler_that_commits_by_itself_and_hangs_in_a_statement_is_called_unknown<
    C: Database,
>(
    scene: &Scene<C>,
) {
    let server = server(scene).await;
    let steps = "pay; sql COMMIT; once sql SELECT pg_sleep(20)";
    let first = server.post("/all", "key", steps).await;
    first.assert_code(409, "outcome-unknown");
    let again = server.post("/all", "key", steps).await;
    again.assert_code(409, "outcome-unknown");
    assert_eq!(scene.payments("key").await, 1);
}
on_databases!(a_handler_that_commits_by_itself_and_hangs_in_a_statement_is_called_unknown: PgConnection DeadpoolTransaction);

/// The first request hangs, and has done nothing; its retry pays.
async fn assert_retried<C: Database>(scene: &Scene<C>, server: &Server<C>, steps: &str) {
    server.post("/all", "key", steps).await.assert_refused();
    let again = server.settled("/all", "key", steps).await;
    again.assert_own(201);
    assert_eq!(scene.payments("key").await, 1);
}

/// In the server neither its locks nor its session outlive it, with a key or without.
async fn a_statement_that_hangs_ends_with_its_handler<C: Database>(scene: &Scene<C>) {
    let server = server(scene).await;
    let steps = "pay; once sql SELECT pg_sleep(600), '{records}'";
    assert_retried(scene, &server, steps).await;
    let steps = "pay; sql SELECT pg_sleep(600), '{records}'";
    let refused = reply(server.keyless(Method::POST, "/optional", steps)).await;
    refused.assert_refused();
    let running = "SELECT count(*) FROM pg_stat_activity \
        WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(600), ''{records}%'";
    for _ in 0..4_000 {
        if scene.number(running).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a statement still runs");
}
on_databases!(a_statement_that_hangs_ends_with_its_handler: PgConnection DeadpoolTransaction);

/// The server does not notice that its client is gone, and ends it after the time in which its session may be silent.
async fn a_statement_that_never_ends_keeps_no_key<C: Database>(scene: &Scene<C>) {
    let server = server(scene).await;
    let steps = "pay; once sql SELECT BENCHMARK(1000000000000, SHA2('x', 512))";
    assert_retried(scene, &server, steps).await;
}
on_databases!(a_statement_that_never_ends_keeps_no_key: MySqlConnection);
