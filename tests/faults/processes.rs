//! Several processes on one store.

use crate::support::load::retry_from_all;
use crate::support::{Kind, Scenario, on_stores};

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
