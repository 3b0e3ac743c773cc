//! What a handler answers, and what is there afterwards.

use crate::support::{Database, Scene, on_databases};

async fn the_row_and_the_record_are_committed_together<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/all", "key", "pay").await;
    first.assert_own(201);
    assert_eq!(first.text(), "key: run 1, attempt 1");
    scene.assert_once("key").await;
    for _ in 0..3 {
        let again = server.post("/all", "key", "pay").await;
        again.assert_replay_of(&first);
    }
    assert_eq!(server.stage.runs(), 1);
    // And in another process.
    let other = scene.server().await;
    let again = other.post("/all", "key", "pay").await;
    again.assert_replay_of(&first);
    assert_eq!(other.stage.runs(), 0);
    scene.assert_once("key").await;
}
on_databases!(the_row_and_the_record_are_committed_together);

async fn another_request_under_the_key_is_422<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    server.post("/all", "key", "pay").await.assert_own(201);
    let other = server.post("/all", "key", "pay; pay").await;
    other.assert_code(422, "key-reused");
    scene.assert_once("key").await;
}
on_databases!(another_request_under_the_key_is_422);

async fn an_attempt_in_a_transaction_is_the_first_and_knows_its_record<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let first = server.post("/all", "key", "pay").await;
    assert_eq!(first.text(), "key: run 1, attempt 1");
    let record = scene
        .number("SELECT COUNT(*) FROM {payments} WHERE LENGTH(record) = 64 AND client_key = 'key'")
        .await;
    assert_eq!(record, 1);
}
on_databases!(an_attempt_in_a_transaction_is_the_first_and_knows_its_record);

async fn an_error_answer_takes_the_writes_back_and_is_stored_by_policy<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let cases = [
        ("/all", [true, true]),
        ("/client", [true, false]),
        ("/none", [false, false]),
    ];
    for (path, stored) in cases {
        for (code, stored) in [402, 500].into_iter().zip(stored) {
            let key = format!("{}-{code}", &path[1..]);
            let steps = format!("pay; answer {code}");
            let records = scene.records().await;
            let first = server.post(path, &key, &steps).await;
            first.assert_own(code);
            assert_eq!(scene.payments(&key).await, 0, "{key}");
            assert_eq!(scene.records().await - records, i64::from(stored), "{key}");
            let second = server.post(path, &key, &steps).await;
            assert_eq!((second.status, second.is_replay()), (code, stored), "{key}");
            if stored {
                second.assert_replay_of(&first);
            }
            assert_eq!(scene.payments(&key).await, 0, "{key}");
        }
    }
}
on_databases!(an_error_answer_takes_the_writes_back_and_is_stored_by_policy);

async fn a_redirect_is_no_error<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/none", "key", "pay; answer 304").await;
    first.assert_own(304);
    scene.assert_once("key").await;
    let again = server.post("/none", "key", "pay; answer 304").await;
    again.assert_replay_of(&first);
}
on_databases!(a_redirect_is_no_error);

async fn a_released_answer_leaves_nothing_and_frees_the_key<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for run in 1..=2 {
        let released = server.post("/all", "key", "pay; release 200").await;
        released.assert_own(200);
        assert_eq!(released.text(), format!("key: run {run}, attempt 1"));
        scene.assert_nothing("key").await;
    }
    let first = server.post("/all", "key", "pay").await;
    first.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_released_answer_leaves_nothing_and_frees_the_key);

async fn a_panic_takes_the_writes_back_and_is_a_stored_500<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/all", "key", "pay; panic").await;
    first.assert_code(500, "handler-failed");
    assert!(!first.text().contains("4242"), "{first:?}");
    assert_eq!((scene.payments("key").await, scene.records().await), (0, 1));
    let again = server.post("/all", "key", "pay; panic").await;
    again.assert_replay_of(&first);

    let released = server.post("/client", "other", "pay; panic").await;
    released.assert_code(500, "handler-failed");
    assert_eq!(scene.records().await, 1);
    assert_eq!(server.stage.runs(), 2);
}
on_databases!(a_panic_takes_the_writes_back_and_is_a_stored_500);

const TAKEN: &str = "INSERT INTO {accounts} VALUES ('taken', 1)";

async fn a_client_error_after_a_refused_statement_is_stored<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = format!("pay; try {TAKEN}; answer 409");
    let first = server.post("/all", "key", &steps).await;
    first.assert_own(409);
    assert_eq!((scene.payments("key").await, scene.records().await), (0, 1));
    let again = server.post("/all", "key", &steps).await;
    again.assert_replay_of(&first);
}
on_databases!(a_client_error_after_a_refused_statement_is_stored);

/// PostgreSQL has aborted the transaction, and a conflict that passes cannot be told from one that
/// does not.
async fn a_server_error_after_a_refused_statement_is_not_stored<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let refused = format!("pay; sql {TAKEN}");
    server.post("/all", "key", &refused).await.assert_refused();
    let panicked = format!("pay; try {TAKEN}; panic");
    let panicked = server.post("/all", "key", &panicked).await;
    panicked.assert_refused();
    let broken_off = format!("pay; try {TAKEN}; stream 2 error");
    let broken_off = server.post("/all", "key", &broken_off).await;
    broken_off.assert_refused();
    scene.assert_nothing("key").await;
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_server_error_after_a_refused_statement_is_not_stored: PgConnection DeadpoolTransaction);

/// Where a refused statement undoes itself, the handler knows what it answers.
async fn a_server_error_after_a_refused_statement_is_stored<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let refused = format!("pay; sql {TAKEN}");
    let first = server.post("/all", "key", &refused).await;
    first.assert_own(500);
    assert_eq!((scene.payments("key").await, scene.records().await), (0, 1));
    let again = server.post("/all", "key", &refused).await;
    again.assert_replay_of(&first);
}
on_databases!(a_server_error_after_a_refused_statement_is_stored: SqliteConnection MySqlConnection);

async fn a_success_after_a_swallowed_failure_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = format!("pay; try {TAKEN}; answer 201");
    for _ in 0..2 {
        server.post("/all", "key", &steps).await.assert_refused();
        scene.assert_nothing("key").await;
    }
    assert_eq!(server.stage.runs(), 2);
    server.post("/all", "key", "pay").await.assert_own(201);
}
on_databases!(a_success_after_a_swallowed_failure_commits_nothing: PgConnection DeadpoolTransaction);

async fn a_body_of_unknown_length_is_replayed_as_a_whole<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/small", "key", "pay; stream 2").await;
    assert_eq!((first.status, first.text()), (200, "42424242"));
    scene.assert_once("key").await;
    let again = server.post("/small", "key", "pay; stream 2").await;
    // A replay knows its length, the stream did not.
    assert!(again.is_replay());
    assert_eq!((again.status, again.text()), (200, "42424242"));
}
on_databases!(a_body_of_unknown_length_is_replayed_as_a_whole);

/// It does not say that it has ended. It was waited for until `transaction_timeout`, and rolled back.
async fn a_body_that_has_produced_its_announced_length_is_committed<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let first = server.post("/all", "key", "pay; stream 2 silence").await;
    assert_eq!((first.status, first.text()), (200, "42424242"));
    scene.assert_once("key").await;
    let again = server.post("/all", "key", "pay; stream 2 silence").await;
    assert!(again.is_replay());
    assert_eq!((again.status, again.text()), (200, "42424242"));
}
on_databases!(a_body_that_has_produced_its_announced_length_is_committed);

async fn a_body_over_the_limit_passes_and_is_not_retained<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let long = [
        ("stream", "pay; stream 50", "4242".repeat(50)),
        (
            "whole-and-longer-than-ten",
            "pay",
            "whole-and-longer-than-ten: run 2, attempt 1".to_owned(),
        ),
    ];
    for (key, steps, text) in long {
        let first = server.post("/small", key, steps).await;
        assert_eq!((first.text(), first.is_replay()), (text.as_str(), false));
        assert_eq!(scene.payments(key).await, 1);
        let again = server.post("/small", key, steps).await;
        again.assert_code(first.status, "response-not-retained");
        assert!(again.is_replay());
        assert_eq!(scene.payments(key).await, 1);
    }
}
on_databases!(a_body_over_the_limit_passes_and_is_not_retained);

async fn a_body_that_breaks_off_or_panics_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for end in ["error", "panic", "size", "early"] {
        let steps = format!("pay; stream 2 {end}");
        let first = server.post("/all", end, &steps).await;
        first.assert_code(500, "handler-failed");
        assert_eq!(scene.payments(end).await, 0);
        let again = server.post("/all", end, &steps).await;
        again.assert_replay_of(&first);

        let records = scene.records().await;
        let released = server.post("/client", end, &steps).await;
        released.assert_code(500, "handler-failed");
        assert_eq!(
            (scene.payments(end).await, scene.records().await),
            (0, records)
        );
    }
}
on_databases!(a_body_that_breaks_off_or_panics_commits_nothing);

/// Taking back takes `InnoDB` about as long as writing did, and longer than a call of the store's may. (Only MariaDB has such a table of
/// numbers.)
async fn an_error_answer_is_stored_however_much_it_takes_back<C: Database>(scene: &Scene<C>) {
    let limit = std::time::Duration::from_millis(200);
    let server = scene.serve(scene.builder(4).store_timeout(limit)).await;
    let rows = "SELECT seq, SHA2(seq, 256) FROM seq_1_to_400000";
    let steps = format!("try INSERT INTO {{payments}} {rows}; answer 402");
    let first = server.once_free("/all", "key", &steps).await;
    first.assert_own(402);
    let again = server.once_free("/all", "key", &steps).await;
    again.assert_replay_of(&first);
    assert_eq!(scene.number("SELECT COUNT(*) FROM {payments}").await, 0);
}
on_databases!(an_error_answer_is_stored_however_much_it_takes_back: MySqlConnection);
