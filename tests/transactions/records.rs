//! What is there already when a request comes, or comes while it runs.

use std::time::Duration;

use idempotent_runtime::Idempotency;

use crate::support::{Database, Scene, on_databases};

/// The record's life begins when it is written.
async fn a_handler_may_take_longer_than_its_record_lives<C: Database>(scene: &Scene<C>) {
    let ttl = Duration::from_millis(1);
    let server = scene.serve(scene.builder(4).ttl(ttl)).await;
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    tokio::time::sleep(2 * ttl).await;
    server.stage.open("a");
    running.await.unwrap().assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_handler_may_take_longer_than_its_record_lives);

async fn an_expired_record_runs_again<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/all", "key", "pay").await;
    scene
        .execute("UPDATE {records} SET expires_at = created_at")
        .await;
    let second = server.post("/all", "key", "pay").await;
    second.assert_own(201);
    assert_ne!(second.text(), first.text());
    assert_eq!((scene.payments("key").await, scene.records().await), (2, 1));
    let again = server.post("/all", "key", "pay").await;
    again.assert_replay_of(&second);
}
on_databases!(an_expired_record_runs_again);

/// The record comes in the text format, which is not the same everywhere.
async fn a_database_that_escapes_bytes_replays_too<C: Database>(scene: &Scene<C>) {
    let join = if scene.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{join}options=-c%20bytea_output=escape", scene.url);
    let store = C::store(&C::pool(&url, 2), &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let first = server.post("/all", "key", "pay").await;
    first.assert_own(201);
    let again = server.post("/all", "key", "pay").await;
    again.assert_replay_of(&first);
}
on_databases!(a_database_that_escapes_bytes_replays_too: PgConnection);
