//! Copies of a request, while it runs and all at once.

use axum::body::Body;
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt as _;
use idempotent_runtime::Idempotency;
use tower::ServiceExt as _;

use crate::support::{Database, Scene, on_databases};

async fn a_copy_is_409_at_once_and_another_request_422<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let copy = server.post("/all", "key", "pay; gate a").await;
    copy.assert_code(409, "in-flight");
    assert_eq!(copy.headers["retry-after"], "1");
    let other = server.post("/all", "key", "pay").await;
    other.assert_code(422, "key-reused");
    server.stage.open("a");
    let first = running.await.unwrap();
    first.assert_own(201);
    let again = server.post("/all", "key", "pay; gate a").await;
    again.assert_replay_of(&first);
    scene.assert_once("key").await;
}
on_databases!(a_copy_is_409_at_once_and_another_request_422);

/// Nothing but the lock tells the other process.
async fn a_copy_in_another_process_is_409_at_once<C: Database>(scene: &Scene<C>) {
    let (server, other) = (scene.server().await, scene.server().await);
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let copy = other.post("/all", "key", "pay; gate a").await;
    copy.assert_code(409, "in-flight");
    server.stage.open("a");
    let first = running.await.unwrap();
    let again = other.settled("/all", "key", "pay; gate a").await;
    again.assert_replay_of(&first);
    scene.assert_once("key").await;
}
on_databases!(a_copy_in_another_process_is_409_at_once: PgConnection DeadpoolTransaction MySqlConnection);

/// A request that is to write to the file waits for the one that does, and is told when that takes too long.
async fn a_copy_in_another_process_waits_for_the_file<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let impatient = scene
        .builder(1)
        .store_timeout(std::time::Duration::from_millis(50));
    let (other, impatient) = (scene.server().await, scene.serve(impatient).await);
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let copy = impatient.post("/all", "key", "pay; gate a").await;
    copy.assert_refused();
    let waiting = other.spawn("/all", "key", "pay; gate a");
    server.stage.open("a");
    let first = running.await.unwrap();
    waiting.await.unwrap().assert_replay_of(&first);
    scene.assert_once("key").await;
}
on_databases!(a_copy_in_another_process_waits_for_the_file: SqliteConnection);

async fn a_waiter_gets_the_answer<C: Database>(scene: &Scene<C>) {
    let patient = std::time::Duration::from_secs(60);
    let (server, other) = (
        scene.server().await,
        scene.serve(scene.builder(1).store_timeout(patient)).await,
    );
    let steps = "pay; gate a";
    let running = server.spawn("/patient", "key", steps);
    server.stage.reached("a").await;
    let here = [(); 3].map(|()| server.spawn("/patient", "key", steps));
    let there = [(); 3].map(|()| other.spawn("/patient", "key", steps));
    server.stage.open("a");
    let first = running.await.unwrap();
    first.assert_own(201);
    for waiter in here.into_iter().chain(there) {
        waiter.await.unwrap().assert_replay_of(&first);
    }
    scene.assert_once("key").await;
}
on_databases!(a_waiter_gets_the_answer);

async fn a_waiter_whose_time_is_up_is_409<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let running = server.spawn("/impatient", "key", "pay; gate a");
    server.stage.reached("a").await;
    let waiter = server.post("/impatient", "key", "pay; gate a").await;
    waiter.assert_code(409, "in-flight");
    server.stage.open("a");
    running.await.unwrap().assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_waiter_whose_time_is_up_is_409);

async fn when_the_one_who_runs_gives_up_one_waiter_runs<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = "pay; gate a; once release 200";
    let running = server.spawn("/patient", "key", steps);
    server.stage.reached("a").await;
    let waiters = [(); 5].map(|()| server.spawn("/patient", "key", steps));
    server.stage.open("a");
    let released = running.await.unwrap();
    released.assert_own(200);
    server.stage.open("a");
    let mut replies = Vec::new();
    for waiter in waiters {
        replies.push(waiter.await.unwrap());
    }
    let own: Vec<_> = replies.iter().filter(|reply| !reply.is_replay()).collect();
    assert_eq!(own.len(), 1, "{replies:?}");
    assert_eq!((own[0].status, server.stage.runs()), (201, 2));
    for reply in replies.iter().filter(|reply| reply.is_replay()) {
        reply.assert_replay_of(own[0]);
    }
    scene.assert_once("key").await;
}
on_databases!(when_the_one_who_runs_gives_up_one_waiter_runs);

/// With two connections: one is the handler's, the other must be free.
async fn waiters_hold_no_connection<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(2)).await;
    let running = server.spawn("/patient", "key", "pay; gate a");
    server.stage.reached("a").await;
    let waiter = || {
        let request = Request::post("/patient").header("idempotency-key", "key");
        let request = request.body(Body::from("pay; gate a")).unwrap();
        Box::pin(server.router.clone().oneshot(request))
    };
    let mut waiters: Vec<_> = (0..20).map(|_| waiter()).collect();
    // Without a socket in between, one poll gets them to where they wait.
    for waiter in &mut waiters {
        assert!(futures_util::poll!(waiter).is_pending());
    }
    for other in ["one", "two"] {
        let other = server.post("/all", other, "pay").await;
        other.assert_own(201);
    }
    server.stage.open("a");
    let first = running.await.unwrap();
    for waiter in join_all(waiters).await {
        let waiter = waiter.unwrap();
        assert!(waiter.headers().contains_key("idempotent-replayed"));
        let body = waiter.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, first.body);
    }
    assert_eq!(scene.payments("key").await, 1);
}
on_databases!(waiters_hold_no_connection: PgConnection DeadpoolTransaction MySqlConnection);

async fn a_copy_needs_no_connection<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(1)).await;
    let running = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let copy = server.post("/all", "key", "pay; gate a").await;
    copy.assert_code(409, "in-flight");
    server.stage.open("a");
    running.await.unwrap().assert_own(201);
}
on_databases!(a_copy_needs_no_connection);

const KEYS: usize = 25;
const COPIES: usize = 16;

async fn of_sixteen_copies_in_two_processes_one_runs<C: Database>(scene: &Scene<C>) {
    let patient = |connections| {
        let store = scene.store(connections);
        Idempotency::builder(store).store_timeout(std::time::Duration::from_secs(60))
    };
    let servers = [scene.serve(patient(6)).await, scene.serve(patient(6)).await];
    for key in 0..KEYS {
        let key = format!("race-{key}");
        let copies = (0..COPIES).map(|copy| {
            let server = &servers[copy % servers.len()];
            server.settled("/all", &key, "pay")
        });
        let replies = join_all(copies).await;
        let own: Vec<_> = replies.iter().filter(|reply| !reply.is_replay()).collect();
        assert!(own.len() <= 1, "{key}: {own:?}");
        for reply in &replies {
            assert_eq!(
                (reply.status, &reply.body),
                (201, &replies[0].body),
                "{key}"
            );
        }
        assert_eq!(scene.payments(&key).await, 1, "{key}");
    }
    assert_eq!(scene.records().await, i64::try_from(KEYS).unwrap());
}
on_databases!(of_sixteen_copies_in_two_processes_one_runs);

/// Another request's record that comes between the look and the record of this one, on a connection that has had no transaction
/// before.
async fn a_record_that_comes_behind_the_look_is_in_flight<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(2)).await;
    let plain = server.plain(&scene.tables).await;
    plain.stage.open("plain");
    plain.post("/all", "key", "pay").await.assert_own(200);
    let copied = "CREATE TEMPORARY TABLE copied AS SELECT * FROM {records}";
    scene.execute(copied).await;
    scene.execute("DELETE FROM {records}").await;
    let busy = server.spawn("/all", "busy", "gate a");
    server.stage.reached("a").await;
    scene.execute("BEGIN").await;
    let insert = "INSERT INTO {records} SELECT * FROM copied WHERE operation = 'POST /all'";
    scene.execute(insert).await;
    let behind = server.spawn("/all", "key", "pay");
    // It waits for that record. The server looks no more often than each 100 ms.
    let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx
        WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%{records}%'";
    let mut looks = 0;
    while scene.number(waits).await == 0 {
        looks += 1;
        assert!(looks < 200, "it does not wait");
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    scene.execute("COMMIT").await;
    behind.await.unwrap().assert_code(409, "in-flight");
    server.stage.open("a");
    busy.await.unwrap().assert_own(201);
    assert_eq!(scene.payments("key").await, 0);
}
on_databases!(a_record_that_comes_behind_the_look_is_in_flight: MySqlConnection);
