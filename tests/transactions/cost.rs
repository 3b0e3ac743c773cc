//! What `#[tx]` adds to the transaction that the application would have had anyway.

use std::time::Duration;

use idempotent_runtime::Idempotency;
use sqlx::PgConnection;

use crate::own_server::OwnServer;
use crate::support::wire::Wire;
use crate::support::{Database, Scene, Server, on_databases};

/// The round trips of some work on a pool's only connection, until that is back in the pool.
async fn round_trips<C: Database>(wire: &Wire, pool: &C::Pool, work: impl Future) -> usize {
    wire.take_exchanges();
    work.await;
    for _ in 0..20_000 {
        if C::is_idle(pool) {
            return wire.take_exchanges();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the connection never comes back");
}

/// With what a transaction adds that is the first of its key, and what a replay takes; the pool itself
/// asks a connection that comes back whether it is alive, which is one in each of them.
async fn round_trips_are_few<C: Database>(scene: &Scene<C>) {
    let (added, replay) = match C::STORE {
        "postgres" => (3, 3),
        _ => (3, 2),
    };
    let (url, wire) = scene.wired().await;
    let pool = C::pool(&url, 1);
    let store = C::store(&pool, &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let row = scene
        .tables
        .put_into("INSERT INTO {payments} VALUES ('key', '')");
    // The first of each prepares statements.
    for key in ["first", "second"] {
        let without = round_trips::<C>(&wire, &pool, C::transaction(&pool, &row)).await;
        let with = round_trips::<C>(&wire, &pool, async {
            server.post("/all", key, "pay").await.assert_own(201);
        });
        let with = with.await;
        let again = round_trips::<C>(&wire, &pool, async {
            assert!(server.post("/all", key, "pay").await.is_replay());
        });
        let again = again.await;
        if key == "second" {
            assert_eq!((with - without, again), (added, replay));
        }
    }
}
on_databases!(round_trips_are_few: PgConnection MySqlConnection);

/// On a server of its own, where no other client writes.
#[tokio::test]
async fn a_hundred_replays_add_no_byte_to_the_log() {
    let Some(own) = OwnServer::start() else {
        return;
    };
    let url = sqlx::ConnectOptions::to_url_lossy(&own.options());
    let scene = Scene::<PgConnection>::at(url.to_string()).await;
    let server = scene.server().await;
    let steps = "pay; answer 201";
    let first = server.post("/all", "key", steps).await;
    first.assert_own(201);
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let log_position = || scene.number(position);
    scene.execute("CHECKPOINT").await;
    replay(&server, steps).await;
    let before = log_position().await;
    for _ in 0..100 {
        replay(&server, steps).await;
    }
    assert_eq!(log_position().await - before, 0);
    server.post("/all", "other", steps).await.assert_own(201);
    assert!(log_position().await > before);
}

async fn replay(server: &Server<PgConnection>, steps: &str) {
    assert!(server.post("/all", "key", steps).await.is_replay());
}
