//! Recovery functions that take their time in some histories, and the crashes that they decide about.

use super::{Abandoned, IntentPlan, Millis, Surface, Trouble};
use crate::rng::Rng;

/// Returns how long they take. From a generator of its own: the histories of other seeds do not depend on it.
pub(super) fn slow_down(
    troubles: &mut Vec<(Millis, Trouble)>,
    intents: &mut [IntentPlan],
    seed: u64,
    processes: usize,
    chaos: Millis,
) -> Millis {
    let mut rng = Rng::new(seed ^ 0x5107_4ec0);
    if !rng.percent(20) {
        return 0;
    }
    for intent in intents {
        if intent.surface == Surface::Function && rng.percent(70) {
            intent.on_abandoned = Abandoned::Recover;
        }
    }
    let takes = rng.pick(&[20, 600, 3_000, 9_000]);
    for _ in 0..1 + rng.below(3) {
        let process = rng.below(processes);
        let down = rng.pick(&[10, 500, 5_000]);
        let at = rng.between(0, chaos * 3 / 4);
        troubles.push((at, Trouble::Kill { process, down }));
        // The next one ends while a function may be at it.
        if rng.percent(40) {
            let deadline = rng.pick(&[0, 300, 5_000, 30_000]);
            let process = rng.below(processes);
            let at = at + down + rng.between(0, takes + 4_000);
            let trouble = Trouble::Shutdown {
                process,
                deadline,
                down,
            };
            troubles.push((at.min(chaos * 3 / 4), trouble));
        }
    }
    takes
}
