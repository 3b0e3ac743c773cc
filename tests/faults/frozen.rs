//! A process stands still for longer than its lease, as under a stopped virtual machine, and then
//! goes on as if nothing had happened.

use std::time::Duration;

use crate::support::{Application, Kind, Options, Reply, Scenario, on_stores};

/// One and a half leases.
const FROZEN: Duration = Duration::from_millis(1500);

async fn a_frozen_process_changes_nothing_once_another_took_over(kind: Kind) {
    let Some((scenario, frozen, other)) = two(kind, "taken-over").await else {
        return;
    };
    let key = "gated-retry";
    let late = frozen.spawn_post("/retry", key);
    frozen.gate_reached(key).await;
    freeze_between_writes(&frozen, &other).await;
    tokio::time::sleep(FROZEN).await;
    let taken_over = other.settled("/retry", key).await;
    assert_eq!(taken_over.status, 201, "{taken_over:?}");
    assert!(taken_over.body.contains(" attempt 2 "), "{taken_over:?}");

    frozen.open_gate(key);
    frozen.thaw();
    let late = late.await.unwrap().expect("an answer");
    late.assert_replay_of(&taken_over);
    for application in [&other, &frozen] {
        let again = application.settled("/retry", key).await;
        again.assert_replay_of(&taken_over);
    }
    // At least once is what this policy promises: both have run, and only one is remembered.
    assert_eq!(scenario.ledger.effects(key).len(), 2);
}
on_stores!(a_frozen_process_changes_nothing_once_another_took_over: Redis Postgres MariaDb Sqlite);

async fn a_frozen_process_cannot_complete_for_the_one_that_runs(kind: Kind) {
    let Some((scenario, frozen, _)) = two(kind, "fenced").await else {
        return;
    };
    let other = scenario.application_with(gated()).await;
    let key = "gated-fenced";
    let late = frozen.spawn_post("/retry", key);
    frozen.gate_reached(key).await;
    freeze_between_writes(&frozen, &other).await;
    let wake_up = async {
        other.gate_reached(key).await;
        frozen.open_gate(key);
        frozen.thaw();
        let late = late.await.unwrap().expect("an answer");
        assert_eq!(late.status, 409, "it has lost its claim: {late:?}");
        other.open_gate(key);
    };
    let (ran, ()) = tokio::join!(other.settled("/retry", key), wake_up);
    assert_eq!((ran.status, ran.is_replay), (201, false), "{ran:?}");
    assert!(ran.body.contains(" attempt 2 "), "{ran:?}");
    for application in [&other, &frozen] {
        let again = application.settled("/retry", key).await;
        again.assert_replay_of(&ran);
    }
}
on_stores!(a_frozen_process_cannot_complete_for_the_one_that_runs: Redis Postgres MariaDb Sqlite);

async fn a_late_completion_counts_while_nobody_took_over(kind: Kind) {
    let Some((scenario, frozen, other)) = two(kind, "late").await else {
        return;
    };
    let key = "gated-reject";
    let late = frozen.spawn_post("/reject", key);
    frozen.gate_reached(key).await;
    freeze_between_writes(&frozen, &other).await;
    tokio::time::sleep(FROZEN).await;
    let meanwhile = other.settled("/reject", key).await;
    meanwhile.assert_code(409, "outcome-unknown");

    frozen.open_gate(key);
    frozen.thaw();
    let late = late.await.unwrap().expect("an answer");
    assert_eq!((late.status, late.is_replay), (201, false), "{late:?}");
    for application in [&other, &frozen] {
        let again = application.settled("/reject", key).await;
        again.assert_replay_of(&late);
    }
    scenario.ledger.assert_once(key, &late.body);
}
on_stores!(a_late_completion_counts_while_nobody_took_over: Redis Postgres MariaDb Sqlite);

/// The one that will be frozen, and the other.
async fn two(kind: Kind, name: &str) -> Option<(Scenario, Application, Application)> {
    let scenario = Scenario::new(kind, name)?;
    let frozen = scenario.application_with(gated()).await;
    let other = scenario.application().await;
    Some((scenario, frozen, other))
}

fn gated() -> Options {
    Options {
        gated: true,
        ..Options::default()
    }
}

/// A process that is stopped in the middle of a write to a file keeps that file locked, and no other
/// process gets further until it goes on. That is another story: then it goes on for a moment here.
async fn freeze_between_writes(frozen: &Application, other: &Application) {
    for number in 0..20 {
        frozen.freeze();
        let probe = other.post("/steady", &format!("probe-{number}")).await;
        if probe
            .as_ref()
            .is_some_and(|reply: &Reply| reply.status == 201)
        {
            return;
        }
        frozen.thaw();
    }
    panic!("the store is blocked by a process that does next to nothing");
}
