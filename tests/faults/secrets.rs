//! A secret is set for the first time, and then changed, in rolling deploys of three processes under load,
//! with duplicates of each request in flight at all of them.

use crate::support::load::{Answers, retry_from_all};
use crate::support::{Application, Kind, Options, Scenario, on_stores};

/// The settings that are rolled out one after the other, in the way that the documentation says.
const RELEASES: [Option<&str>; 5] = [
    None,
    Some(",first"),
    Some("first"),
    Some("first,second"),
    Some("second"),
];

async fn start(scenario: &Scenario, secrets: Option<&'static str>) -> Application {
    let options = Options {
        secrets,
        ..Options::default()
    };
    scenario.application_with(options).await
}

async fn secret_is_rotated_under_load(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "secrets") else {
        return;
    };
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(start(&scenario, RELEASES[0]).await);
    }
    let mut alive: Vec<String> = Vec::new();
    for (number, release) in RELEASES.into_iter().enumerate() {
        for instance in 0..processes.len() {
            // A deploy waits until the old process is done, which it is: the last load has ended.
            processes[instance] = start(&scenario, release).await;
            let keys = (0..20).map(|key| format!("release-{number}-{instance}-{key}"));
            alive.extend(keys);
            let all: Vec<_> = processes.iter().collect();
            let answers = retry_from_all(&all, "/steady", &alive, 24, 6).await;
            assert_once(&scenario, &answers);
        }
        // Of those that were begun when all processes had this release, and no earlier one, the next
        // release has to know.
        let last = format!("release-{number}-{}-", processes.len() - 1);
        alive.retain(|key| key.starts_with(&last));
    }
}
on_stores!(secret_is_rotated_under_load: Redis Postgres MariaDb Sqlite);

fn assert_once(scenario: &Scenario, answers: &Answers) {
    for (key, replies) in answers.iter() {
        for reply in replies {
            assert_eq!(reply.status, 201, "{key}: {reply:?}");
            scenario.ledger.assert_once(key, &reply.body);
        }
    }
}
