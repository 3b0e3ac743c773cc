//! Deterministic simulation of engines over one store: see the README of this folder.

mod app;
mod client;
mod judge;
mod ledger;
mod link;
mod model;
mod plan;
mod process;
mod rng;
mod server;
mod world;

use plan::Plan;
use world::World;

/// Seeds for a run that nobody has chosen seeds for.
const FEW: u64 = 50;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `SIMULATION_SEEDS` histories from `SIMULATION_FROM` on.
#[test]
fn histories_of_random_seeds_keep_every_invariant() {
    let from = variable("SIMULATION_FROM").unwrap_or(0);
    let seeds = variable("SIMULATION_SEEDS").unwrap_or(FEW);
    let begun = std::time::Instant::now();
    let mut found = 0;
    for seed in from..from + seeds {
        let with_trace = seeds == 1;
        let mut world = World::new(Plan::of_seed(seed), with_trace);
        let violation = world.run();
        if with_trace {
            for line in world.trace.take().unwrap_or_default() {
                println!("{line}");
            }
        }
        if let Some(violation) = violation {
            println!("seed {seed}: {}: {}", violation.invariant, violation.what);
            println!("  replay: cargo xtask simulate --seeds 1 --from {seed}");
            found += 1;
        }
    }
    println!("{seeds} seeds from {from} in {:?}", begun.elapsed());
    assert_eq!(found, 0, "{found} seeds broke an invariant");
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    for seed in [1, 7, 23] {
        let mut traces = (0..2).map(|_| {
            let mut world = World::new(Plan::of_seed(seed), true);
            world.run();
            world.trace.take().unwrap_or_default()
        });
        let (first, second) = (traces.next().unwrap(), traces.next().unwrap());
        assert!(first.len() > 20, "{}", first.len());
        assert!(first == second, "seed {seed}");
    }
}
