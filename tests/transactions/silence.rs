//! Handlers that have committed by themselves, and whose connection then says nothing more: what they have done does not
//! happen again, wherever in the end of the transaction the replies are lost.

use std::time::Duration;

use crate::support::{Database, Scene, Server, on_databases};

const LIMIT: Duration = Duration::from_millis(500);

/// Two processes, the first of which speaks by a wire.
async fn two_servers<C: Database>(scene: &Scene<C>, url: &str) -> [Server<C>; 2] {
    let over_wire = C::store(&C::pool(url, 4), &scene.tables.records);
    let [over_wire, direct] = [
        idempotent_runtime::Idempotency::builder(over_wire),
        scene.builder(4),
    ]
    .map(|it| it.store_timeout(LIMIT).transaction_timeout(2 * LIMIT));
    [scene.serve(over_wire).await, scene.serve(direct).await]
}

async fn what_was_committed_before_a_silence_happens_once<C: Database>(
    scene: &Scene<C>,
    handlers: &[(&str, &str)],
) {
    let (url, wire) = scene.wired().await;
    let [over_wire, direct] = two_servers(scene, &url).await;
    let mut struck = 0;
    for (number, (path, steps)) in handlers.iter().enumerate() {
        // Behind the payment come COMMIT, what the handler does then, and the end of the transaction.
        for behind in 2..=5 {
            let key = format!("key-{number}-{behind}");
            let warm = format!("warm-{number}-{behind}");
            let warmed = over_wire.settled("/all", &warm, "pay").await;
            assert_eq!(warmed.status, 201, "{warmed:?}");
            wire.keep_replies(&format!("'{key}'"), behind);
            let first = over_wire.post(path, &key, steps).await;
            if !wire.let_go() {
                continue;
            }
            struck += 1;
            let context = format!("{path} [{steps}], silent from message {behind}: {first:?}");
            assert_ne!(first.code(), Some("store-unavailable"), "{context}");
            let again = direct.once_free(path, &key, steps).await;
            assert_eq!(scene.payments(&key).await, 1, "{context}, then {again:?}");
        }
    }
    assert!(struck >= handlers.len(), "silent {struck} times");
}

async fn an_answer_behind_a_commit_and_a_silence<C: Database>(scene: &Scene<C>) {
    let handlers = [
        ("/all", "pay; sql COMMIT; answer 201"),
        ("/all", "pay; sql COMMIT; answer 402"),
        ("/all", "pay; sql COMMIT; sql BEGIN READ ONLY; answer 201"),
        // Its record is written there, and not committed.
        ("/all", "pay; sql COMMIT; sql BEGIN; answer 201"),
        ("/all", "pay; sql COMMIT AND CHAIN; answer 201"),
    ];
    let handlers = match C::STORE {
        "mysql" => &handlers[..2],
        _ => &handlers[..],
    };
    what_was_committed_before_a_silence_happens_once(scene, handlers).await;
}
on_databases!(an_answer_behind_a_commit_and_a_silence: PgConnection DeadpoolTransaction MySqlConnection);

/// Their answers are not stored.
async fn a_handler_that_hangs_or_is_released_behind_a_commit_and_a_silence<C: Database>(
    scene: &Scene<C>,
) {
    let handlers = [
        ("/all", "pay; sql COMMIT; gate never"),
        ("/all", "pay; sql COMMIT; release 200"),
        ("/none", "pay; sql COMMIT; answer 500"),
    ];
    what_was_committed_before_a_silence_happens_once(scene, &handlers).await;
}
on_databases!(a_handler_that_hangs_or_is_released_behind_a_commit_and_a_silence: PgConnection DeadpoolTransaction MySqlConnection);
