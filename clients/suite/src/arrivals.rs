//! What the network has seen of each intent: the keys, the tries, and how long the client has waited after `Retry-After`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::plan::Fault;

/// One try, as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) intent: String,
    /// Without the quotes that the draft puts around it.
    pub(crate) key: String,
    /// Which life of the client has sent it.
    pub(crate) life: String,
}

#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    intents: HashMap<String, Seen>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Seen {
    tries: u32,
    keys: BTreeSet<String>,
    lives: BTreeSet<String>,
    /// No try of this life before this moment.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    life: String,
    since: Instant,
    retry_after: Duration,
}

/// What is counted over a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) tries: usize,
    /// Retries after an answer with `Retry-After`, and those of them that came too soon.
    pub(crate) waits: usize,
    pub(crate) early: usize,
    /// By how much the earliest of them was too soon.
    pub(crate) earliest: Duration,
    pub(crate) faults: BTreeMap<Fault, usize>,
    /// What a browser asks before a page of another origin may send a key.
    pub(crate) preflights: usize,
}

impl Arrivals {
    /// Notes a try, and returns its number among those of its intent, from 1.
    pub(crate) fn note(&self, arrival: &Arrival) -> u32 {
        let now = Instant::now();
        let mut log = self.log();
        let seen = log.intents.entry(arrival.intent.clone()).or_default();
        seen.tries += 1;
        seen.keys.insert(arrival.key.clone());
        seen.lives.insert(arrival.life.clone());
        let (number, wait) = (seen.tries, seen.wait.take());
        log.tally.tries += 1;
        // A life that has ended has forgotten what it was told.
        if let Some(wait) = wait.filter(|wait| wait.life == arrival.life) {
            log.tally.waits += 1;
            let missing = wait.retry_after.saturating_sub(now - wait.since);
            if missing > Duration::ZERO {
                log.tally.early += 1;
                log.tally.earliest = log.tally.earliest.max(missing);
            }
        }
        number
    }

    pub(crate) fn note_preflight(&self) {
        self.log().tally.preflights += 1;
    }

    pub(crate) fn note_fault(&self, fault: Fault) {
        *self.log().tally.faults.entry(fault).or_default() += 1;
    }

    /// The client is about to get this whole answer. Called before it is sent: a wait is never measured too short.
    pub(crate) fn note_answer(&self, arrival: &Arrival, retry_after: Duration) {
        if let Some(seen) = self.log().intents.get_mut(&arrival.intent) {
            seen.wait = Some(Wait {
                life: arrival.life.clone(),
                since: Instant::now(),
                retry_after,
            });
        }
    }

    pub(crate) fn tries(&self) -> usize {
        self.log().tally.tries
    }

    pub(crate) fn tally(&self) -> Tally {
        self.log().tally.clone()
    }

    /// Under how many keys an intent has arrived, and from how many lives of the client.
    pub(crate) fn keys_and_lives(&self, intent: &str) -> (usize, usize) {
        let log = self.log();
        let seen = log.intents.get(intent);
        seen.map_or((0, 0), |seen| (seen.keys.len(), seen.lives.len()))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(key: &str, life: &str) -> Arrival {
        Arrival {
            intent: "order-1".to_owned(),
            key: key.to_owned(),
            life: life.to_owned(),
        }
    }

    #[test]
    fn a_retry_before_retry_after_is_early() {
        let arrivals = Arrivals::default();
        let first = arrival("a", "0");
        assert_eq!(arrivals.note(&first), 1);
        arrivals.note_answer(&first, Duration::from_secs(60));
        assert_eq!(arrivals.note(&first), 2);
        assert_eq!((arrivals.tally().waits, arrivals.tally().early), (1, 1));
    }

    #[test]
    fn a_client_that_was_killed_owes_no_wait() {
        let arrivals = Arrivals::default();
        arrivals.note(&arrival("a", "0"));
        arrivals.note_answer(&arrival("a", "0"), Duration::from_secs(60));
        arrivals.note(&arrival("a", "1"));
        assert_eq!((arrivals.tally().waits, arrivals.tally().early), (0, 0));
    }

    #[test]
    fn every_key_of_an_intent_is_seen() {
        let arrivals = Arrivals::default();
        arrivals.note(&arrival("a", "0"));
        arrivals.note(&arrival("b", "0"));
        assert_eq!(arrivals.keys_and_lives("order-1"), (2, 1));
        assert_eq!(arrivals.keys_and_lives("order-2"), (0, 0));
    }
}
