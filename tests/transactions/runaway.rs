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

/// Where it can: then the record is stored all the same, so that there is no second effect.
async fn a_handler_that_commits_by_itself_is_replayed<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let commits = ["sql COMMIT", "sql COMMIT; sql BEGIN"];
    let ends = ["answer 201", "answer 402", "answer 500", "panic"];
    for commit in commits {
        for end in ends {
            let steps = format!("pay; {commit}; {end}");
            let key = &steps.replace([' ', ';'], "");
            let first = server.post("/all", key, &steps).await;
            assert_ne!(first.status, 503, "{steps}: {first:?}");
            assert_eq!(scene.payments(key).await, 1, "{steps}");
            let again = server.post("/all", key, &steps).await;
            again.assert_replay_of(&first);
            assert_eq!(scene.payments(key).await, 1, "{steps}");
        }
    }
}
on_databases!(a_handler_that_commits_by_itself_is_replayed: PgConnection DeadpoolTransaction MySqlConnection);

/// On MySQL a change of the schema commits, and what follows is refused.
async fn a_handler_that_changes_the_schema_is_replayed<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for end in ["answer 201", "answer 402", "answer 500", "panic"] {
        let steps = format!("pay; try CREATE TABLE {{accounts}}_of (id INT); {PAY}; {end}");
        let key = &end.replace(' ', "");
        let first = server.post("/all", key, &steps).await;
        assert_ne!(first.status, 503, "{steps}: {first:?}");
        assert_eq!(scene.payments(key).await, 1, "{steps}");
        let again = server.post("/all", key, &steps).await;
        again.assert_replay_of(&first);
        assert_eq!(scene.payments(key).await, 1, "{steps}");
    }
    assert_eq!(scene.payments("more").await, 0);
}
on_databases!(a_handler_that_changes_the_schema_is_replayed: MySqlConnection);

/// Of a handler that does not look at what the database says.
const PAY: &str = "try INSERT INTO {payments} VALUES ('more', '')";

/// Nothing that a handler writes when its transaction has ended is committed without the record.
async fn what_follows_a_rollback_on_mysql_is_not_committed<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let begins = [
        "",
        "sql BEGIN",
        "sql START TRANSACTION",
        "sql SET autocommit = 1",
        "sql SET completion_type = CHAIN",
        "try CREATE TABLE {accounts}_of (id INT)",
    ];
    let ends = [
        "pay; sql COMMIT",
        "try ROLLBACK AND CHAIN; answer 201",
        "sql COMMIT; answer 402",
        "sql COMMIT; answer 500",
        "sql COMMIT; panic",
        "sql COMMIT; release 200",
    ];
    for begin in begins {
        for end in ends {
            let steps = format!("pay; sql ROLLBACK; {begin}; {PAY}; {end}");
            for _ in 0..2 {
                server.post("/all", "key", &steps).await;
                scene.assert_nothing("key").await;
                assert_eq!(scene.payments("more").await, 0, "{steps}");
            }
        }
    }
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(what_follows_a_rollback_on_mysql_is_not_committed: MySqlConnection);

/// What it has committed by itself is there, and no retry does it again.
async fn what_follows_a_rollback_on_postgres_happens_once<C: Database>(scene: &Scene<C>) {
    for (path, begin) in [("/all", ""), ("/all", "sql BEGIN"), ("/none", "")] {
        let server = scene.serve(scene.builder(2)).await;
        for end in ["", "answer 402", "answer 500", "panic", "release 200"] {
            let commit = if begin.is_empty() { "" } else { "sql COMMIT" };
            let steps = format!("pay; sql ROLLBACK; {begin}; pay; {commit}; {end}");
            let first = server.post(path, "key", &steps).await;
            let again = server.post(path, "key", &steps).await;
            let payments = scene.payments("key").await;
            assert_eq!(payments, 1, "{path} {steps}: {first:?}, {again:?}");
            scene.execute("DELETE FROM {payments}").await;
            scene.execute("DELETE FROM {records}").await;
        }
    }
}
on_databases!(what_follows_a_rollback_on_postgres_happens_once: PgConnection DeadpoolTransaction);
