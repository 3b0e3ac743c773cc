//! Handlers that do with the connection what they should not, or more than one thinks of.

use crate::support::{Database, Scene, on_databases};

async fn a_transaction_within_is_part_of_the_whole<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for (ending, payments) in [("commit", 2), ("rollback", 1), ("drop", 1)] {
        let steps = format!("pay; nested {ending}");
        let first = server.post("/all", ending, &steps).await;
        first.assert_own(201);
        assert_eq!(scene.payments(ending).await, payments, "{ending}");
        let again = server.post("/all", ending, &steps).await;
        again.assert_replay_of(&first);

        let undone = format!("{ending}-undone");
        let steps = format!("pay; nested {ending}; answer 402");
        let first = server.post("/all", &undone, &steps).await;
        first.assert_own(402);
        assert_eq!(scene.payments(&undone).await, 0, "{ending}");
        let again = server.post("/all", &undone, &steps).await;
        again.assert_replay_of(&first);
    }
}
on_databases!(a_transaction_within_is_part_of_the_whole);

async fn a_forgotten_transaction_within_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = "pay; nested forget";
    server.post("/all", "key", steps).await.assert_refused();
    scene.assert_nothing("key").await;
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_forgotten_transaction_within_commits_nothing: PgConnection SqliteConnection MySqlConnection);

/// `begin` within is dropped half-way, as by a timeout around it, or is refused: then sqlx rolls back the whole and not the
/// savepoint, on PostgreSQL, and what comes behind it is committed at once. An answer that says that it was paid is not true.
async fn a_transaction_within_that_does_not_begin_is_not_called_paid<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let refused = "try INSERT INTO {accounts} VALUES ('taken', 1)";
    for (number, steps) in [
        "pay; nested with",
        "pay; nested cancelled",
        &format!("pay; {refused}; nested refused"),
    ]
    .iter()
    .enumerate()
    {
        let key = format!("key-{number}");
        for _ in 0..2 {
            let answer = server.post("/all", &key, steps).await;
            let paid = scene.payments(&key).await;
            assert_eq!(
                answer.status == 201,
                paid == 1,
                "{steps}: {paid} {answer:?}"
            );
        }
    }
}
on_databases!(a_transaction_within_that_does_not_begin_is_not_called_paid: PgConnection SqliteConnection MySqlConnection);

/// The same, and the handler goes on: what it writes then stays, so that the answer is not that nothing was done, and no retry
/// does it again.
async fn what_follows_a_transaction_within_that_does_not_begin_happens_once<C: Database>(
    scene: &Scene<C>,
) {
    for path in ["/all", "/none", "/optional"] {
        for end in ["", "answer 402", "answer 500", "panic", "release 200"] {
            let server = scene.serve(scene.builder(2)).await;
            let steps = format!(
                "pay; nested cancelled; sql INSERT INTO {{payments}} VALUES ('more', ''); {end}"
            );
            let request = || match path {
                "/optional" => server.keyless(reqwest::Method::POST, path, &steps),
                _ => server.request(path, "key", &steps),
            };
            let answer = crate::support::reply(request()).await;
            let more = scene.payments("more").await;
            assert!(
                answer.status != 503 || more == 0,
                "{path} {end}: {more} {answer:?}"
            );
            if path != "/optional" {
                crate::support::reply(request()).await;
                let again = scene.payments("more").await;
                assert!(again <= 1, "{path} {end}: paid {again} times");
            }
            scene.execute("DELETE FROM {payments}").await;
            scene.execute("DELETE FROM {records}").await;
        }
    }
}
on_databases!(what_follows_a_transaction_within_that_does_not_begin_happens_once: PgConnection SqliteConnection MySqlConnection);

/// A handler that gives up there, as by `tx.begin().await?`, has done nothing: its error is the answer, and the stored one. (By
/// SQLite and MySQL it is 503, and the key is free.)
async fn an_error_where_a_transaction_within_does_not_begin_is_the_answer<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let refused = "try INSERT INTO {accounts} VALUES ('taken', 1)";
    for (number, begins) in [
        "nested with",
        "nested cancelled",
        &format!("{refused}; nested refused"),
    ]
    .iter()
    .enumerate()
    {
        let steps = format!("pay; {begins}; answer 402");
        let key = format!("key-{number}");
        server.post("/all", &key, &steps).await.assert_own(402);
        let again = server.post("/all", &key, &steps).await;
        assert!(again.is_replay() && again.status == 402, "{again:?}");
        assert_eq!(scene.payments(&key).await, 0, "{steps}");
        let keyless = server.keyless(reqwest::Method::POST, "/optional", &steps);
        assert_eq!(crate::support::reply(keyless).await.status, 402, "{steps}");
    }
    // The connections serve on.
    server.post("/all", "last", "pay").await.assert_own(201);
}
on_databases!(an_error_where_a_transaction_within_does_not_begin_is_the_answer: PgConnection);

/// The same where the answer is not stored: nothing has happened, so the key is free.
async fn where_a_transaction_within_does_not_begin_and_nothing_is_stored_the_key_is_free<
    C: Database,
>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    for begins in ["nested with", "nested cancelled"] {
        for (path, end, status) in [
            ("/all", "answer 500", 503),
            ("/all", "panic", 503),
            ("/all", "release 402", 402),
            ("/none", "answer 402", 402),
            ("/none", "answer 500", 500),
            ("/none", "panic", 500),
        ] {
            let what = format!("{path}: {begins}; {end}");
            let key = what.replace([':', ';', '/', ' '], "-");
            let steps = format!("pay; {begins}; {end}");
            let answer = server.post(path, &key, &steps).await;
            assert_eq!(answer.status, status, "{what}: {answer:?}");
            assert_eq!(scene.payments(&key).await, 0, "{what}");
            server.post(path, &key, "pay").await.assert_own(201);
            assert_eq!(scene.payments(&key).await, 1, "{what}");
        }
    }
}
on_databases!(where_a_transaction_within_does_not_begin_and_nothing_is_stored_the_key_is_free: PgConnection);

/// It is begun by itself at the second try, outside of the transaction, and committed; what is not begun then hides nothing.
async fn what_is_committed_behind_a_transaction_within_that_did_not_begin_is_not_forgotten<
    C: Database,
>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let steps = "pay; nested cancelled; nested commit; nested drop; answer 402";
    for _ in 0..2 {
        let answer = server.post("/all", "key", steps).await;
        assert_eq!(answer.status, 409, "{answer:?}");
        assert_eq!(scene.payments("key").await, 1);
    }
}
on_databases!(what_is_committed_behind_a_transaction_within_that_did_not_begin_is_not_forgotten: PgConnection);
