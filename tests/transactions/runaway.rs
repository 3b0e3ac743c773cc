//! Handlers whose transaction has ended under them, and that go on as if it had not.

use crate::support::{Database, Scene, on_databases};

/// SQLite has rolled back, and would commit each statement by itself from then on.
async fn what_follows_a_rollback_by_sqlite_is_not_committed<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let ended = "try INSERT OR ROLLBACK INTO {accounts} VALUES ('taken', 1)";
    for end in [
        "pay",
        "try INSERT INTO {accounts} VALUES ('c', 1)",
        "answer 402",
    ] {
        let steps = format!("pay; {ended}; {end}");
        server.post("/all", "key", &steps).await.assert_refused();
        scene.assert_nothing("key").await;
        assert_eq!(scene.number("SELECT COUNT(*) FROM {accounts}").await, 3);
    }
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(what_follows_a_rollback_by_sqlite_is_not_committed: SqliteConnection);

async fn a_handler_cannot_commit_on_sqlite<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for steps in [
        "pay; sql COMMIT",
        "pay; try COMMIT; pay",
        "pay; try COMMIT; answer 402",
    ] {
        server.post("/all", "key", steps).await.assert_refused();
        scene.assert_nothing("key").await;
    }
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_handler_cannot_commit_on_sqlite: SqliteConnection);
