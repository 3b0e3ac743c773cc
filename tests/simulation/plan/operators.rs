//! Operators of some histories, and the crashes that they decide about.

use super::{Millis, Secrets, Trouble};
use crate::rng::Rng;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Decide,
    /// About the attempt that was looked at.
    DecideSeen,
    DecideByRecordKey,
    DecideWith,
    Forget,
}

/// From a generator of its own: the histories of other seeds do not depend on it.
pub(super) fn add(
    troubles: &mut Vec<(Millis, Trouble)>,
    seed: u64,
    processes: usize,
    intents: usize,
    chaos: Millis,
    secrets: Secrets,
) {
    let mut rng = Rng::new(seed ^ 0x0be7_a704);
    // An operator goes by the age that the store tells.
    let steps_clock = |(_, it): &(Millis, Trouble)| matches!(it, Trouble::ClockStep { .. });
    if !rng.percent(20) || troubles.iter().any(steps_clock) {
        return;
    }
    for _ in 0..1 + rng.below(3) {
        let process = rng.below(processes);
        let down = rng.pick(&[10, 500, 5_000]);
        let at = rng.between(0, chaos * 3 / 4);
        troubles.push((at, Trouble::Kill { process, down }));
    }
    let forgets = rng.percent(15);
    for _ in 0..1 + rng.below(8) {
        let mut deed = rng.pick(&[
            Deed::Decide,
            Deed::DecideSeen,
            Deed::DecideByRecordKey,
            Deed::DecideWith,
        ]);
        // A record key names one record of several.
        if deed == Deed::DecideByRecordKey && secrets != Secrets::Same {
            deed = Deed::DecideSeen;
        }
        if forgets && rng.percent(40) {
            deed = Deed::Forget;
        }
        let operator = Trouble::Operator {
            process: rng.below(processes),
            intent: rng.below(intents),
            deed,
            thinks: rng.pick(&[0, 0, 50, 2_000, 9_000]),
        };
        let at = rng.between(0, chaos + 40_000);
        troubles.push((at, operator));
        if rng.percent(30) {
            // Another operator has the same idea.
            troubles.push((at + rng.between(0, 3_000), operator));
        }
    }
}
