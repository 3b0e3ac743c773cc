//! When a process is killed: at the n-th try of a round.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::plan::Chance;

/// Which process is killed, with `SIGKILL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    Server,
    Client,
}

/// The kills of a round that are still to come, and what the handler does meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Kills(Mutex<BTreeMap<usize, (Kill, &'static str)>>);

impl Kills {
    /// So many of each, spread over the first `tries` tries.
    pub(crate) fn new(seed: u64, tries: usize, servers: usize, clients: usize) -> Self {
        let mut plan = BTreeMap::new();
        for (kill, count) in [(Kill::Server, servers), (Kill::Client, clients)] {
            let part = tries / (count + 1);
            for index in 1..=count {
                let mut chance =
                    Chance::new(seed, "kill", u32::try_from(index).unwrap_or_default());
                let mut at = part * index
                    + usize::try_from(chance.below(part as u64 / 2)).unwrap_or_default();
                while plan.contains_key(&at) {
                    at += 1;
                }
                // Killed before the charge, and after it.
                let hold = if index % 2 == 0 {
                    "before=500"
                } else {
                    "after=500"
                };
                plan.insert(at, (kill, hold));
            }
        }
        Self(Mutex::new(plan))
    }

    /// The kill that is due at this try.
    pub(crate) fn due(&self, tries: usize) -> Option<(Kill, &'static str)> {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = plan.first_entry()?;
        (*first.key() <= tries).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_is_due_once() {
        let kills = Kills::new(1, 1000, 3, 2);
        let due: Vec<_> = (1..=1000).filter_map(|tries| kills.due(tries)).collect();
        assert_eq!(due.len(), 5);
        assert_eq!(
            due.iter().filter(|(kill, _)| *kill == Kill::Client).count(),
            2
        );
    }
}
