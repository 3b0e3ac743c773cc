//! A handler that works in steps is killed after each of them.

use std::time::{Duration, Instant};

use crate::support::{BOUND, Kind, Options, Point, Scenario, on_stores};

async fn each_step_has_its_effect_once_in_order(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "steps") else {
        return;
    };
    let key = "in-steps";
    for point in Point::IN_STEPS {
        let options = Options {
            crash: Some(point),
            ..Options::default()
        };
        let application = scenario.application_with(options).await;
        // The one before it has left its lease, during which this one is told to wait.
        let started = Instant::now();
        while let Some(reply) = application.post("/steps", key).await {
            reply.assert_code(409, "in-flight");
            assert!(started.elapsed() < BOUND, "{point:?} is never reached");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        application.death().await;
    }

    let survivor = scenario.application().await;
    let first = survivor.settled("/steps", key).await;
    assert_eq!((first.status, first.is_replay), (201, false), "{first:?}");
    let effects: Vec<_> = (1..=3)
        .map(|number| format!("{key} step {number} by attempt {number}"))
        .collect();
    assert_eq!(scenario.ledger.effects(key), effects);
    assert_eq!(first.body, effects.join("\n"));
    survivor
        .settled("/steps", key)
        .await
        .assert_replay_of(&first);
    assert_eq!(scenario.ledger.effects(key), effects);
}
on_stores!(each_step_has_its_effect_once_in_order: Redis Postgres MariaDb Sqlite);
