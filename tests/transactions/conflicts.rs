//! Handlers in each other's way: for a row, for a connection.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use idempotent_runtime::Idempotency;
use reqwest::{Method, RequestBuilder};
use sqlx::{MySqlConnection, Row as _};

use crate::support::{Database, Reply, Scene, Server, on_databases, reply};

/// Two handlers that lock two rows in opposite order.
const LOCKS: [&str; 2] = [
    "pay; sql UPDATE {accounts} SET value = value + 1 WHERE name = 'a'; gate a; \
     LAST UPDATE {accounts} SET value = value + 1 WHERE name = 'b'",
    "pay; sql UPDATE {accounts} SET value = value + 1 WHERE name = 'b'; gate b; \
     LAST UPDATE {accounts} SET value = value + 1 WHERE name = 'a'",
];

/// Lets both go on when each has come to its gate. For a retry the gates are open.
async fn both<C: Database>(server: &Server<C>, requests: [RequestBuilder; 2]) -> [Reply; 2] {
    let running = requests.map(|request| tokio::spawn(reply(request)));
    let gates = ["a", "b"];
    for gate in gates {
        server.stage.reached(gate).await;
    }
    for gate in gates {
        server.stage.open(gate);
    }
    let [one, two] = running;
    let replies = [one.await.unwrap(), two.await.unwrap()];
    for gate in gates {
        server.stage.open(gate);
    }
    replies
}

fn sorted(replies: &[Reply; 2]) -> [u16; 2] {
    let mut statuses = replies.each_ref().map(|reply| reply.status);
    statuses.sort_unstable();
    statuses
}

async fn of_two_that_lock_each_other_out_one_is_refused_and_succeeds_later<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    let steps = LOCKS.map(|steps| steps.replace("LAST", "sql"));
    let requests = [0, 1].map(|i| server.request("/all", ["one", "two"][i], &steps[i]));
    let replies = both(&server, requests).await;
    assert_eq!(sorted(&replies), [201, 503], "{replies:?}");
    assert_eq!(scene.records().await, 1);
    for ((key, steps), first) in ["one", "two"].into_iter().zip(&steps).zip(&replies) {
        let again = server.settled("/all", key, steps).await;
        match first.status {
            503 => {
                first.assert_refused();
                again.assert_own(201);
            }
            _ => again.assert_replay_of(first),
        }
        assert_eq!(scene.payments(key).await, 1);
    }
    assert_eq!((scene.account("a").await, scene.account("b").await), (2, 2));
    assert_eq!(scene.records().await, 2);
}
on_databases!(of_two_that_lock_each_other_out_one_is_refused_and_succeeds_later: PgConnection DeadpoolTransaction MySqlConnection);

/// A victim that has not noticed, and writes on after everything before was rolled back.
fn unnoticed(end: &str) -> [String; 2] {
    LOCKS.map(|steps| {
        let steps = steps.replace("LAST", "try");
        format!("{steps}; try INSERT INTO {{payments}} VALUES ('unnoticed', ''); {end}")
    })
}

async fn a_victim_that_goes_on_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    // What PostgreSQL has aborted can still be taken back to the savepoint, so a client error is as
    // good as any.
    let client_error = match C::STORE {
        "postgres" => [402, 402],
        _ => [402, 503],
    };
    let ends = [
        ("answer 201", [201, 503]),
        ("answer 402", client_error),
        ("answer 500", [500, 503]),
        ("panic", [500, 503]),
    ];
    for (number, (end, statuses)) in ends.into_iter().enumerate() {
        let steps = unnoticed(end);
        let requests = [0, 1].map(|i| server.request("/all", &format!("{i}-{number}"), &steps[i]));
        let replies = both(&server, requests).await;
        assert_eq!(sorted(&replies), statuses, "{end}");
        // All that is there is what the one that won with 201 has written.
        assert_eq!(scene.payments("unnoticed").await, 1, "{end}");
        assert_eq!((scene.account("a").await, scene.account("b").await), (1, 1));
        for gate in ["a", "b"] {
            server.stage.close(gate);
        }
    }
    let stored = if C::STORE == "postgres" { 5 } else { 4 };
    assert_eq!(scene.records().await, stored);
}
on_databases!(a_victim_that_goes_on_commits_nothing: PgConnection DeadpoolTransaction MySqlConnection);

/// Without a record there is nothing but the savepoint to tell, and on MySQL it does not tell a rollback of the server's from
/// a `COMMIT` of the handler's.
async fn a_victim_without_a_key_commits_no_half<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let requests = unnoticed("answer 201");
    let requests = requests.map(|steps| server.keyless(Method::POST, "/optional", &steps));
    let replies = both(&server, requests).await;
    let victim = if C::STORE == "mysql" { 409 } else { 503 };
    assert_eq!(sorted(&replies), [201, victim]);
    let there = (scene.payments("").await, scene.payments("unnoticed").await);
    assert_eq!(there, (1, 1));
    assert_eq!((scene.account("a").await, scene.account("b").await), (1, 1));
}
on_databases!(a_victim_without_a_key_commits_no_half: PgConnection DeadpoolTransaction MySqlConnection);

/// Both read both rows, and each writes one: one after the other they would not have.
async fn of_two_that_cannot_be_put_in_order_one_is_refused<C: Database>(scene: &Scene<C>) {
    let url = scene.url_with("default_transaction_isolation=serializable");
    let store = C::store(&C::pool(&url, 4), &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let withdraw = |from: &str| {
        format!(
            "pay; sql UPDATE {{accounts}} SET value = value - 1 WHERE name = '{from}' \
             AND (SELECT sum(value) FROM {{accounts}}) > 0; gate {from}"
        )
    };
    scene
        .execute("UPDATE {accounts} SET value = 1 WHERE name = 'a'")
        .await;
    let steps = ["a", "b"].map(withdraw);
    let requests = [0, 1].map(|i| server.request("/all", ["one", "two"][i], &steps[i]));
    let replies = both(&server, requests).await;
    assert_eq!(sorted(&replies), [201, 503]);
    assert_eq!(scene.records().await, 1);
    for (key, steps) in ["one", "two"].into_iter().zip(&steps) {
        assert_eq!(server.settled("/all", key, steps).await.status, 201);
        assert_eq!(scene.payments(key).await, 1);
    }
    // The request that came second found nothing left.
    assert_eq!(scene.account("a").await + scene.account("b").await, 0);
    assert_eq!(scene.records().await, 2);
}
on_databases!(of_two_that_cannot_be_put_in_order_one_is_refused: PgConnection DeadpoolTransaction);

/// Under a snapshot that may be older than the lock, the primary key decides.
async fn serializable_copies_run_once<C: Database>(scene: &Scene<C>) {
    for level in ["serializable", "repeatable-read"] {
        let level = level.replace('-', "\\ ");
        let url = scene.url_with(&format!("default_transaction_isolation={level}"));
        let servers = [1, 2].map(|_| C::store(&C::pool(&url, 8), &scene.tables.records));
        let [one, two] = servers.map(Idempotency::builder);
        let servers = [scene.serve(one).await, scene.serve(two).await];
        for key in 0..20 {
            let key = format!("{}-{key}", &level[..4]);
            let copies = (0..16).map(|copy| servers[copy % 2].settled("/all", &key, "pay"));
            for reply in join_all(copies).await {
                assert_eq!(reply.status, 201, "{reply:?}");
            }
            assert_eq!(scene.payments(&key).await, 1, "{key}");
        }
    }
    assert_eq!(scene.records().await, 40);
}
on_databases!(serializable_copies_run_once: PgConnection DeadpoolTransaction);

async fn two_connections_are_enough_for_64_clients<C: Database>(scene: &Scene<C>) {
    const CLIENTS: usize = 64;
    let server = scene.serve(scene.builder(2)).await;
    let keys: Vec<_> = (0..CLIENTS).map(|key| format!("key-{key}")).collect();
    // Each key is sent by four clients.
    let client = async |client: usize| {
        let mut replies = Vec::new();
        for turn in 0..4 {
            let key = (client + turn) % CLIENTS;
            replies.push((key, server.settled("/all", &keys[key], "pay").await));
        }
        replies
    };
    let mut answers = BTreeMap::new();
    for (key, reply) in join_all((0..CLIENTS).map(client)).await.concat() {
        assert_eq!(reply.status, 201, "{reply:?}");
        let answer = answers.entry(key).or_insert_with(|| reply.body.clone());
        assert_eq!(reply.body, *answer);
    }
    for key in &keys {
        assert_eq!(scene.payments(key).await, 1, "{key}");
    }
    assert_eq!(scene.records().await, i64::try_from(CLIENTS).unwrap());
    assert_eq!(server.idempotency.pending(), 0);
}
on_databases!(two_connections_are_enough_for_64_clients);

async fn a_slow_handler_holds_up_no_other_key<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let slow = server.spawn("/all", "slow", "pay; gate a");
    server.stage.reached("a").await;
    for key in ["one", "two", "three"] {
        let first = server.post("/all", key, "pay").await;
        first.assert_own(201);
        server
            .post("/all", key, "pay")
            .await
            .assert_replay_of(&first);
    }
    server.stage.open("a");
    slow.await.unwrap().assert_own(201);
}
on_databases!(a_slow_handler_holds_up_no_other_key: PgConnection DeadpoolTransaction MySqlConnection);

/// However a request ends, the pool gets back what it has lent.
async fn a_connection_comes_back_as_it_was<C: Database>(scene: &Scene<C>) {
    let pool = <MySqlConnection as Database>::pool(&scene.url, 1);
    let store = <MySqlConnection as Database>::store(&pool, &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let plain = server.plain(&scene.tables).await;
    let stories = [
        "pay",
        "pay",
        "pay; answer 402",
        "pay; release 200",
        "pay; panic",
        "pay; sql COMMIT",
        "pay; nested drop",
        "pay; nested forget",
        "pay; try ROLLBACK; pay",
    ];
    for steps in stories {
        let key = steps.replace([' ', ';'], "");
        server.post("/all", &key, steps).await;
        assert_as_it_was(&pool, steps).await;
    }
    server
        .post("/all", "pay", "pay; pay")
        .await
        .assert_code(422, "key-reused");
    assert_as_it_was(&pool, "another request").await;
    let running = plain.spawn("/all", "plain", "pay");
    plain.stage.reached("plain").await;
    server
        .post("/all", "plain", "pay")
        .await
        .assert_code(409, "in-flight");
    assert_as_it_was(&pool, "in flight").await;
    plain.stage.open("plain");
    running.await.unwrap().assert_own(200);
    reply(server.keyless(Method::POST, "/optional", "pay")).await;
    assert_as_it_was(&pool, "without a key").await;
}
on_databases!(a_connection_comes_back_as_it_was: MySqlConnection);

async fn assert_as_it_was(pool: &sqlx::MySqlPool, after: &str) {
    let state = "SELECT CAST(@@autocommit AS SIGNED), CAST(RELEASE_ALL_LOCKS() AS SIGNED),
        CAST(/*M! @@tx_read_only */ /*!80000 @@transaction_read_only */ AS SIGNED)";
    let state = sqlx::query(state).fetch_one(pool).await.unwrap();
    let state: (i64, i64, i64) = (state.get(0), state.get(1), state.get(2));
    assert_eq!(state, (1, 0, 0), "autocommit, locks and mode after {after}");
}

/// The store has not failed, and the client is not told that it has.
async fn a_transaction_that_was_rolled_back_is_told_as_that<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = "pay; try SELECT nonsense; answer 500";
    let refused = server.post("/all", "bad", steps).await;
    refused.assert_refused();
    let told = String::from_utf8_lossy(&refused.body);
    assert!(
        told.contains("was rolled back") && !told.contains("store cannot be used"),
        "{told}"
    );
    assert_eq!((scene.records().await, scene.payments("bad").await), (0, 0));
    let again = server.settled("/all", "bad", "pay; answer 201").await;
    again.assert_own(201);
    assert_eq!(scene.payments("bad").await, 1);
}
on_databases!(a_transaction_that_was_rolled_back_is_told_as_that: PgConnection DeadpoolTransaction);
