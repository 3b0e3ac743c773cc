//! Clients that go away, databases that go away, and the end of the process.

use std::time::Duration;

use futures_util::FutureExt as _;
use idempotent_runtime::Idempotency;
use reqwest::Method;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::wire::Wire;
use crate::support::{Database, Scene, Server, on_databases, reply};

const LONG: Duration = Duration::from_secs(60);

/// Sends a request, waits until its handler stands at the gate, and hangs up.
async fn hang_up<C: Database>(server: &Server<C>, key: &str, steps: &str) {
    let length = steps.len();
    let request = format!(
        "POST /all HTTP/1.1\r\nhost: shop\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{steps}"
    );
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    server.stage.reached("a").await;
    drop(client);
    // The handler, and the task that it has moved to.
    server.pending(2).await;
}

async fn a_client_that_hangs_up_changes_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    hang_up(&server, "key", "pay; gate a; pay").await;
    server.stage.open("a");
    let answer = server.settled("/all", "key", "pay; gate a; pay").await;
    assert!(answer.is_replay(), "{answer:?}");
    assert_eq!((scene.payments("key").await, scene.records().await), (2, 1));
    assert_eq!(server.stage.runs(), 1);
}
on_databases!(a_client_that_hangs_up_changes_nothing);

/// Also none without a record: its handler would run on in the background as well.
async fn no_transaction_begins_while_too_many_run_on_in_the_background<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene
        .serve(scene.builder(4).max_background_handlers(1))
        .await;
    let done = server.post("/all", "done", "").await;
    hang_up(&server, "key", "pay; gate a").await;
    server
        .post("/all", "other", "pay")
        .await
        .assert_code(503, "overloaded");
    let keyless = server.keyless(Method::POST, "/optional", "pay");
    reply(keyless).await.assert_code(503, "overloaded");
    server
        .post("/all", "done", "")
        .await
        .assert_replay_of(&done);
    server.stage.open("a");
    server.pending(0).await;
    server.post("/all", "other", "pay").await.assert_own(201);
    assert_eq!(scene.payments("key").await, 1);
    assert_eq!(scene.payments("other").await, 1);
}
on_databases!(no_transaction_begins_while_too_many_run_on_in_the_background);

async fn a_shutdown_waits_for_what_runs_and_begins_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let done = server.post("/all", "done", "pay").await;
    hang_up(&server, "key", "pay; gate a").await;
    let idempotency = server.idempotency.clone();
    let mut shutdown = Box::pin(idempotency.shutdown(LONG));
    assert!(shutdown.as_mut().now_or_never().is_none());
    for path in ["/all", "/patient", "/optional"] {
        let refused = server.post(path, "other", "pay").await;
        refused.assert_code(503, "shutting-down");
    }
    let again = server.post("/all", "done", "pay").await;
    again.assert_replay_of(&done);

    server.stage.open("a");
    assert_eq!(shutdown.await, 0);
    assert_eq!(scene.payments("key").await, 1);
    let again = server.post("/all", "key", "pay; gate a").await;
    assert!(again.is_replay(), "{again:?}");
    assert_eq!(scene.payments("other").await, 0);
}
on_databases!(a_shutdown_waits_for_what_runs_and_begins_nothing);

async fn a_shutdown_counts_what_it_could_not_wait_for<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    assert_eq!(server.idempotency.shutdown(Duration::ZERO).await, 1);
    server.stage.open("a");
    running.await.unwrap().assert_own(201);
    assert_eq!(server.idempotency.shutdown(LONG).await, 0);
    scene.assert_once("key").await;
}
on_databases!(a_shutdown_counts_what_it_could_not_wait_for);

/// The runtime ends under a handler, which is what a crash looks like from the inside.
async fn a_handler_that_is_cut_off_leaves_nothing<C: Database>(scene: &Scene<C>) {
    let (url, tables) = (scene.url.clone(), scene.tables.clone());
    let cut_off = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = C::store(&C::pool(&url, 2), &tables.records);
            let idempotency = Idempotency::builder(store).secret_check(false).build();
            let server = Server::<C>::start(idempotency, &tables).await;
            server.spawn("/all", "key", "pay; gate a");
            server.stage.reached("a").await;
        });
    });
    cut_off.join().unwrap();
    let server = scene.server().await;
    server.stage.open("a");
    let first = server.settled("/all", "key", "pay; gate a").await;
    first.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_handler_that_is_cut_off_leaves_nothing);

/// An application whose database is at the other end of a wire.
async fn wired<C: Database>(scene: &Scene<C>, connections: u32) -> (Server<C>, Wire) {
    let (url, wire) = scene.wired().await;
    let store = C::store(&C::pool(&url, connections), &scene.tables.records);
    (scene.serve(Idempotency::builder(store)).await, wire)
}

async fn without_its_database_nothing_runs<C: Database>(scene: &Scene<C>) {
    let (server, wire) = wired(scene, 2).await;
    let first = server.post("/all", "key", "pay").await;
    first.assert_own(201);
    wire.cut().await;
    for key in ["key", "new"] {
        let refused = server.post("/all", key, "pay").await;
        refused.assert_refused();
    }
    assert_eq!((server.stage.runs(), scene.payments("new").await), (1, 0));
    wire.mend();
    let again = server.settled("/all", "key", "pay").await;
    again.assert_replay_of(&first);
    let fresh = server.settled("/all", "new", "pay").await;
    fresh.assert_own(201);
    assert_eq!((scene.payments("new").await, scene.records().await), (1, 2));
}
on_databases!(without_its_database_nothing_runs: PgConnection DeadpoolTransaction MySqlConnection);

/// Where the log could be written and not flushed, what was committed is there when the server has been started again.
async fn a_commit_at_which_the_server_panics_is_not_called_nothing<C: Database>(scene: &Scene<C>) {
    // io_error, disk_full
    for (key, code) in [("one", "58030"), ("two", "53100")] {
        let (server, wire) = wired(scene, 2).await;
        let running = server.spawn("/all", key, "pay; once gate a");
        server.stage.reached("a").await;
        wire.panic_at_commit(code);
        server.stage.open("a");
        let first = running.await.unwrap();
        assert_eq!(scene.payments(key).await, 1);
        first.assert_code(409, "in-flight");
        wire.mend();
        let again = server.settled("/all", key, "pay; once gate a").await;
        assert!(again.is_replay(), "{again:?}");
        assert_eq!((server.stage.runs(), scene.payments(key).await), (1, 1));
    }
}
on_databases!(a_commit_at_which_the_server_panics_is_not_called_nothing: PgConnection DeadpoolTransaction);

async fn a_connection_lost_under_the_handler_commits_nothing<C: Database>(scene: &Scene<C>) {
    let ends = [
        "pay; answer 201",
        "try SELECT 1; answer 201",
        "answer 201",
        "answer 402",
        "answer 500",
        "panic",
    ];
    for end in ends {
        let (server, wire) = wired(scene, 2).await;
        let steps = format!("pay; once gate a; {end}");
        let running = server.spawn("/all", "key", &steps);
        server.stage.reached("a").await;
        wire.cut().await;
        server.stage.open("a");
        let lost = running.await.unwrap();
        match lost.code() {
            // What is sent before it is known that the connection is lost.
            Some("in-flight") if C::RECORD_GOES_WITH_COMMIT && end == "answer 201" => {}
            _ => lost.assert_refused(),
        }
        scene.assert_nothing("key").await;

        wire.mend();
        let retry = server.settled("/all", "key", &steps).await;
        assert!(!retry.is_replay(), "{end}: {retry:?}");
        assert_eq!(server.stage.runs(), 2, "{end}");
        let expected = match end {
            "pay; answer 201" => 2,
            "answer 402" | "answer 500" | "panic" => 0,
            _ => 1,
        };
        assert_eq!(scene.payments("key").await, expected, "{end}");
        assert_eq!(scene.records().await, 1, "{end}");
        scene.execute("DELETE FROM {payments}").await;
        scene.execute("DELETE FROM {records}").await;
    }
}
on_databases!(a_connection_lost_under_the_handler_commits_nothing: PgConnection DeadpoolTransaction MySqlConnection);

/// What may only be refused when it is committed.
async fn a_commit_that_is_refused_leaves_nothing<C: Database>(scene: &Scene<C>) {
    let deferred = "REFERENCES {accounts} (name) DEFERRABLE INITIALLY DEFERRED";
    scene
        .execute(&format!(
            "CREATE TABLE {{accounts}}_of (name VARCHAR(16) NOT NULL {deferred})"
        ))
        .await;
    let server = scene.server().await;
    let steps = |name| format!("pay; sql INSERT INTO {{accounts}}_of VALUES ('{name}')");
    for _ in 0..2 {
        let refused = server.once_free("/all", "key", &steps("unknown")).await;
        refused.assert_refused();
        scene.assert_nothing("key").await;
    }
    let own = server.once_free("/all", "key", &steps("a")).await;
    own.assert_own(201);
    scene.assert_once("key").await;
    scene.execute("DROP TABLE {accounts}_of").await;
}
on_databases!(a_commit_that_is_refused_leaves_nothing: PgConnection DeadpoolTransaction SqliteConnection);
