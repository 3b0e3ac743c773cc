//! Processes are killed wherever they happen to be, while many clients keep all of them busy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::application::wait_until;
use crate::support::{Application, BOUND, Kind, Options, Reply, Scenario, on_stores};

const PROCESSES: usize = 3;
const KILLED: usize = 12;
const CLIENTS: usize = 16;
const NOTHING_IN_FLIGHT_AFTER: Duration = Duration::from_secs(2);

/// A process that dies is replaced by another in its place.
type Places = [Mutex<Arc<Application>>; PROCESSES];

async fn never_a_second_effect_when_processes_are_killed_under_load(kind: Kind) {
    let Some(scenario) = Scenario::new(kind, "killed") else {
        return;
    };
    let start = || scenario.application_with(patient());
    let places: Places =
        [start().await, start().await, start().await].map(|process| Mutex::new(Arc::new(process)));

    let (done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let client = async |number: usize| {
        let mut answers = BTreeMap::new();
        for request in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            // Two clients share a key, and do not begin at the same process.
            let key = format!("killed-{}-{request}", number / 2);
            answers.insert(key.clone(), final_answer(&places, number, &key).await);
            done.fetch_add(1, Ordering::Relaxed);
        }
        answers
    };
    let killer = async {
        for victim in 0..KILLED {
            let so_far = done.load(Ordering::Relaxed);
            wait_until("work goes on", || {
                done.load(Ordering::Relaxed) > so_far + 10
            })
            .await;
            let victim = &places[victim % PROCESSES];
            at(victim).kill();
            let next = Arc::new(start().await);
            *victim.lock().unwrap() = next;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (answers, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), killer);

    // The lease of the process that was killed last, and a second.
    tokio::time::sleep(NOTHING_IN_FLIGHT_AFTER).await;
    let judge = at(&places[0]);
    for (key, reply) in answers.into_iter().flatten() {
        let effects = scenario.ledger.effects(&key);
        assert!(effects.len() <= 1, "{key}: {effects:?}");
        let in_the_end = judge.post("/reject", &key).await.expect("an answer");
        assert!(in_the_end.is_final(), "{key}: {in_the_end:?}");
        if reply.status == 201 {
            assert_eq!(effects, [reply.body.as_str()], "{key}");
            in_the_end.assert_replay_of(&reply);
        } else {
            reply.assert_code(409, "outcome-unknown");
        }
    }
}
on_stores!(never_a_second_effect_when_processes_are_killed_under_load: Redis Postgres MariaDb Sqlite);

fn patient() -> Options {
    Options {
        patient: true,
        ..Options::default()
    }
}

fn at(place: &Mutex<Arc<Application>>) -> Arc<Application> {
    Arc::clone(&place.lock().unwrap())
}

async fn final_answer(places: &Places, first: usize, key: &str) -> Reply {
    let started = Instant::now();
    for turn in first.. {
        let process = at(&places[turn % PROCESSES]);
        if let Some(reply) = process.post("/reject", key).await
            && reply.is_final()
        {
            return reply;
        }
        assert!(started.elapsed() < BOUND, "{key}: no final answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("turns do not end")
}
