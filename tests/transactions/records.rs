//! What is there already when a request comes, or comes while it runs.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use idempotent_runtime::store::ListFilter;
use idempotent_runtime::{Idempotency, Transactions, idempotent};
use tower::ServiceExt as _;

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

/// A UUIDv7 of two hours ago.
fn old_key(last: char) -> String {
    let age = Duration::from_secs(2 * 60 * 60);
    let made_at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - age;
    let time = format!("{:012x}", made_at.as_millis());
    format!("{}-{}-7cc3-98c4-dc0c0c07398{last}", &time[..8], &time[8..])
}

async fn an_old_key_is_answered_from_its_record_and_runs_nothing<C: Database>(scene: &Scene<C>) {
    let hours = |hours: u64| scene.builder(4).ttl(Duration::from_secs(hours * 60 * 60));
    let (key, unused) = (old_key('0'), old_key('1'));
    let before = scene.serve(hours(24)).await;
    let first = before.post("/aged", &key, "pay").await;
    first.assert_own(201);
    let server = scene.serve(hours(1)).await;
    let again = server.post("/aged", &key, "pay").await;
    again.assert_replay_of(&first);
    let reused = server.post("/aged", &key, "pay; pay").await;
    reused.assert_code(422, "key-reused");
    let expired = server.post("/aged", &unused, "pay").await;
    expired.assert_code(400, "key-expired");
    assert_eq!(
        (scene.payments(&unused).await, scene.records().await),
        (0, 1)
    );
}
on_databases!(an_old_key_is_answered_from_its_record_and_runs_nothing);

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

/// What an expired record is by the time the new one is written: gone, or another attempt's.
async fn an_expired_record_may_be_purged_or_claimed_under_a_transaction<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let expire = "UPDATE {records} SET expires_at = created_at";
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.execute(expire).await;
    let steps = "pay; sql DELETE FROM {records}";
    let second = server.post("/all", "key", steps).await;
    second.assert_own(201);
    assert_eq!((scene.payments("key").await, scene.records().await), (2, 1));
    let again = server.post("/all", "key", steps).await;
    again.assert_replay_of(&second);

    scene.execute(expire).await;
    let transaction = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let plain = server.plain(&scene.tables).await;
    let running = plain.spawn("/all", "key", "pay; gate a");
    plain.stage.reached("plain").await;
    server.stage.open("a");
    let lost = transaction.await.unwrap();
    lost.assert_code(409, "in-flight");
    assert_eq!(scene.payments("key").await, 2);
    plain.stage.open("plain");
    running.await.unwrap().assert_own(200);
}
on_databases!(an_expired_record_may_be_purged_or_claimed_under_a_transaction: PgConnection DeadpoolTransaction);

#[idempotent(label = body)]
async fn labelled<C: Database>(#[tx] tx: &mut C, body: String) -> String {
    let _ = tx;
    body
}

/// MySQL wrote none.
async fn the_label_of_a_transaction_is_in_its_record<C: Database>(scene: &Scene<C>) {
    let idempotency = scene.builder(2).secret_check(false).build();
    let transactions: Transactions<C> = idempotency.transactions().await.unwrap();
    let router: Router = Router::new()
        .route("/labelled", post(labelled::<C>))
        .with_state(transactions);
    let request = Request::post("/labelled").header("idempotency-key", "key");
    let request = request.body(Body::from("order 4711")).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 200);
    let listed = idempotency.list(&ListFilter::new(), None, 10).await;
    let records = listed.unwrap().records;
    let labels: Vec<_> = records.iter().map(|it| it.label.as_deref()).collect();
    assert_eq!(labels, [Some("order 4711")]);
}
on_databases!(the_label_of_a_transaction_is_in_its_record);

/// The record comes in the text format, which is not the same everywhere.
async fn a_database_that_escapes_bytes_replays_too<C: Database>(scene: &Scene<C>) {
    let url = scene.url_with("bytea_output=escape");
    let store = C::store(&C::pool(&url, 2), &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let first = server.post("/all", "key", "pay").await;
    first.assert_own(201);
    let again = server.post("/all", "key", "pay").await;
    again.assert_replay_of(&first);
}
on_databases!(a_database_that_escapes_bytes_replays_too: PgConnection DeadpoolTransaction);

/// What a handler of the same operation has left that runs without a transaction.
async fn a_record_that_runs_or_was_abandoned_is_not_run_again<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let plain = server.plain(&scene.tables).await;
    let running = plain.spawn("/all", "key", "pay");
    plain.stage.reached("plain").await;
    let in_flight = server.post("/all", "key", "pay").await;
    in_flight.assert_code(409, "in-flight");
    assert_eq!(in_flight.headers["retry-after"], "1");
    let reused = server.post("/all", "key", "pay; pay").await;
    reused.assert_code(422, "key-reused");

    scene
        .execute("UPDATE {records} SET lease_until = created_at")
        .await;
    let abandoned = server.post("/all", "key", "pay").await;
    abandoned.assert_code(409, "outcome-unknown");
    assert_eq!((server.stage.runs(), scene.payments("key").await), (0, 0));

    plain.stage.open("plain");
    let first = running.await.unwrap();
    first.assert_own(200);
    let again = server.post("/all", "key", "pay").await;
    again.assert_replay_of(&first);
}
on_databases!(a_record_that_runs_or_was_abandoned_is_not_run_again);

/// On the other two it would wait: there the transaction has the record from the beginning.
async fn a_claim_that_comes_while_a_transaction_runs_wins<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let plain = server.plain(&scene.tables).await;
    let transaction = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    let running = plain.spawn("/all", "key", "pay; gate a");
    plain.stage.reached("plain").await;
    server.stage.open("a");
    let lost = transaction.await.unwrap();
    lost.assert_code(409, "in-flight");
    assert_eq!(scene.payments("key").await, 0);

    plain.stage.open("plain");
    let first = running.await.unwrap();
    first.assert_own(200);
    for server in [&server, &plain] {
        let again = server.post("/all", "key", "pay; gate a").await;
        again.assert_replay_of(&first);
    }
    assert_eq!((scene.payments("key").await, scene.records().await), (0, 1));
}
on_databases!(a_claim_that_comes_while_a_transaction_runs_wins: PgConnection DeadpoolTransaction);

/// And one that is done by then is the answer.
async fn a_claim_that_is_completed_while_a_transaction_runs_is_its_answer<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let plain = server.plain(&scene.tables).await;
    let transaction = server.spawn("/all", "key", "pay; gate a");
    server.stage.reached("a").await;
    plain.stage.open("plain");
    let first = plain.post("/all", "key", "pay; gate a").await;
    first.assert_own(200);
    server.stage.open("a");
    transaction.await.unwrap().assert_replay_of(&first);
    assert_eq!(scene.payments("key").await, 0);
}
on_databases!(a_claim_that_is_completed_while_a_transaction_runs_is_its_answer: PgConnection DeadpoolTransaction);

/// An operator removes the record under a transaction, or a database loses it.
async fn without_its_record_a_transaction_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = "pay; sql DELETE FROM {records}";
    server.post("/all", "key", steps).await.assert_refused();
    scene.assert_nothing("key").await;
    server.post("/all", "key", "pay").await.assert_own(201);
}
on_databases!(without_its_record_a_transaction_commits_nothing: SqliteConnection MySqlConnection);

/// The record of another attempt under the same key, whatever has let both of them run.
async fn a_record_of_another_token_is_not_written_over<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let token = match C::STORE {
        "sqlite" => "x'00112233445566778899aabbccddeeff'",
        _ => "0x00112233445566778899AABBCCDDEEFF",
    };
    let steps = format!("pay; sql UPDATE {{records}} SET token = {token}");
    server.post("/all", "key", &steps).await.assert_refused();
    scene.assert_nothing("key").await;
}
on_databases!(a_record_of_another_token_is_not_written_over: SqliteConnection MySqlConnection);

/// Its life is counted by the server's clock, and not by what a handler has made of it.
async fn a_clock_that_a_handler_has_set_ahead_does_not_lengthen_the_life_of_its_record<
    C: Database,
>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    // 2037.
    let steps = "sql SET timestamp = 2114380800; pay";
    server.post("/all", "key", steps).await.assert_own(201);
    let late =
        "SELECT COUNT(*) FROM {records} WHERE expires_at > UTC_TIMESTAMP(6) + INTERVAL 26 HOUR";
    assert_eq!(scene.number(late).await, 0);
}
on_databases!(a_clock_that_a_handler_has_set_ahead_does_not_lengthen_the_life_of_its_record: MySqlConnection);
