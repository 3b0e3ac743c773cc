//! Many clients at once, and what must be true of all they were told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Application, BOUND, Reply, Scenario};

/// What clients were told, by key.
#[derive(Debug, Default)]
pub struct Answers(HashMap<String, Vec<Reply>>);

/// So many clients send each key so many times, to the processes in turn, and retry until the
/// answer is final. The copies of a key are sent one right after the other.
pub async fn retry_from_all(
    processes: &[&Application],
    path: &str,
    keys: &[String],
    clients: usize,
    copies: usize,
) -> Answers {
    let next = AtomicUsize::new(0);
    let client = async |_| {
        let mut answers = Answers::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(key) = keys.get(number / copies) else {
                return answers;
            };
            answers.add(key, retry_in_turn(processes, number, path, key).await);
        }
    };
    join_all((0..clients).map(client))
        .await
        .into_iter()
        .collect()
}

async fn retry_in_turn(processes: &[&Application], first: usize, path: &str, key: &str) -> Reply {
    let started = Instant::now();
    for turn in first.. {
        let reply = processes[turn % processes.len()].post(path, key).await;
        if let Some(reply) = reply.filter(Reply::is_final) {
            return reply;
        }
        assert!(started.elapsed() < BOUND, "{path} {key}: no final answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("turns do not end")
}

impl Answers {
    pub fn add(&mut self, key: &str, reply: Reply) {
        self.0.entry(key.to_owned()).or_default().push(reply);
    }

    /// What was said, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Reply>)> {
        self.0.iter()
    }

    /// Asserts one effect a key, equal answers, and that each process replays all of them.
    pub async fn assert_once_each(&self, scenario: &Scenario, processes: &[&Application]) {
        assert!(!self.0.is_empty(), "no client was told anything");
        for (key, replies) in &self.0 {
            for reply in replies {
                assert_eq!(reply.status, 201, "{key}: {reply:?}");
                scenario.ledger.assert_once(key, &reply.body);
            }
            let first_hand = replies.iter().filter(|reply| !reply.is_replay).count();
            assert!(first_hand <= 1, "{key} ran for {first_hand} clients");
        }
        for process in processes {
            join_all(self.0.iter().map(async |(key, replies)| {
                let again = process.settled("/steady", key).await;
                again.assert_replay_of(&replies[0]);
            }))
            .await;
        }
    }
}

impl FromIterator<Self> for Answers {
    fn from_iter<T: IntoIterator<Item = Self>>(all: T) -> Self {
        let mut answers = Self::default();
        for (key, replies) in all.into_iter().flat_map(|one| one.0) {
            answers.0.entry(key).or_default().extend(replies);
        }
        answers
    }
}
