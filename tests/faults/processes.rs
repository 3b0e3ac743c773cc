//! Several processes on one store.

use futures_util::future::join_all;

use crate::support::load::retry_from_all;
use crate::support::{Kind, Options, Scenario, on_stores};

async fn processes_replay_each_others_answers(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "replays") else {
        return;
    };
    let (one, two) = (scenario.application().await, scenario.application().await);
    for (key, here, there) in [("of-one", &one, &two), ("of-two", &two, &one)] {
        let first = here.settled("/steady", key).await;
        assert_eq!((first.status, first.is_replay), (201, false), "{first:?}");
        let here_process = format!(" in process {}", here.pid());
        assert!(first.body.ends_with(&here_process), "{first:?}");
        there.settled("/steady", key).await.assert_replay_of(&first);

        let reused = there.post_body("/steady", key, "another body").await;
        reused.expect("an answer").assert_code(422, "key-reused");
        scenario.ledger.assert_once(key, &first.body);
    }
    // And still when the process that ran it is gone.
    let first = one.settled("/steady", "of-one").await;
    one.kill();
    let again = two.settled("/steady", "of-one").await;
    again.assert_replay_of(&first);
    scenario.ledger.assert_once("of-one", &again.body);
}
on_stores!(processes_replay_each_others_answers: Redis Postgres MariaDb Sqlite);

async fn one_effect_for_64_clients_of_three_processes(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "processes") else {
        return;
    };
    let processes = [
        scenario.application().await,
        scenario.application().await,
        scenario.application().await,
    ];
    let processes: Vec<_> = processes.iter().collect();
    let keys: Vec<_> = (0..150).map(|number| format!("shared-{number}")).collect();
    let answers = retry_from_all(&processes, "/steady", &keys, 64, 6).await;
    answers.assert_once_each(&scenario, &processes).await;
}
on_stores!(one_effect_for_64_clients_of_three_processes: Redis Postgres MariaDb Sqlite);

async fn requests_wait_for_the_answer_of_another_process(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "waiting") else {
        return;
    };
    let gated = Options {
        gated: true,
        ..Options::default()
    };
    let (runs, waits) = (
        scenario.application_with(gated).await,
        scenario.application().await,
    );
    for key in ["gated-one", "gated-two"] {
        let first = runs.spawn_post("/wait", key);
        runs.gate_reached(key).await;
        let waiting = [(); 16].map(|()| waits.spawn_post("/wait", key));
        runs.open_gate(key);
        let first = first.await.unwrap().expect("an answer");
        assert_eq!((first.status, first.is_replay), (201, false), "{first:?}");
        for waited in join_all(waiting).await {
            let waited = waited.unwrap().expect("an answer");
            waited.assert_replay_of(&first);
        }
        scenario.ledger.assert_once(key, &first.body);
    }
}
on_stores!(requests_wait_for_the_answer_of_another_process: Redis Postgres MariaDb Sqlite);

async fn two_namespaces_on_one_store_never_meet(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "namespaces") else {
        return;
    };
    let within = |namespace| {
        scenario.application_with(Options {
            namespace: Some(namespace),
            ..Options::default()
        })
    };
    let (shop, shop_too, bank) = (
        within("shop").await,
        within("shop").await,
        within("bank").await,
    );
    let key = "of-both";
    let sold = shop.settled("/steady", key).await;
    let paid = bank.settled("/steady", key).await;
    for (first, process) in [(&sold, &shop), (&paid, &bank)] {
        assert_eq!((first.status, first.is_replay), (201, false), "{first:?}");
        let here = format!(" in process {}", process.pid());
        assert!(first.body.ends_with(&here), "{first:?}");
    }
    shop_too
        .settled("/steady", key)
        .await
        .assert_replay_of(&sold);
    bank.settled("/steady", key).await.assert_replay_of(&paid);
    // Not even as the same key with another body.
    let refunded = bank.post_body("/steady", "of-one", "a body").await;
    let sold = shop.post_body("/steady", "of-one", "another body").await;
    for first in [refunded, sold] {
        let first = first.expect("an answer");
        assert_eq!((first.status, first.is_replay), (201, false), "{first:?}");
    }
}
on_stores!(two_namespaces_on_one_store_never_meet: Redis Postgres MariaDb Sqlite);

async fn keys_are_kept_apart_and_bodies_whole(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "bytes") else {
        return;
    };
    let (one, two) = (scenario.application().await, scenario.application().await);
    let longest = "k".repeat(255);
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let keys = [
        "\"abc\"",
        "\"Abc\"",
        "\"abc \"",
        "\" abc\"",
        "\"ab\"",
        &longest,
        &longest[1..],
        &longest.to_uppercase(),
    ];
    let body = |number: usize| {
        let mut body = every_byte.repeat(1 + number * number * 20);
        body.rotate_left(number);
        body
    };
    for (number, key) in keys.iter().enumerate() {
        let first = one.echo(key, body(number)).await;
        assert!(first == (body(number), false), "{key} is another key's");
    }
    for (number, key) in keys.iter().enumerate() {
        let again = two.echo(key, body(number)).await;
        assert!(again == (body(number), true), "{key} comes back changed");
    }
}
on_stores!(keys_are_kept_apart_and_bodies_whole: Redis Postgres MariaDb Sqlite);
