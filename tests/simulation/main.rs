//! Deterministic simulation of engines over one store: see the README of this folder.

mod app;
mod client;
mod judge;
mod ledger;
mod link;
mod logs;
mod model;
mod operator;
mod plan;
mod process;
mod rng;
mod server;
mod world;

use judge::Violation;
use logs::Reader;
use plan::Plan;
use world::World;

/// How many seeds a run has without `SIMULATION_SEEDS`.
const FEW: u64 = 50;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed's history.
fn history(seed: u64, with_trace: bool) -> (World, Option<Violation>) {
    let plan = Plan::of_seed(seed);
    let reads_logs = plan.reads_logs;
    let mut world = World::new(plan, with_trace);
    if !reads_logs {
        let violation = world.run();
        return (world, violation);
    }
    let logs = Reader::default();
    let violation = tracing::subscriber::with_default(logs.clone(), || world.run());
    let leak = logs.leak().map(|line| Violation {
        invariant: "I12",
        what: format!("a log has a secret: {line}"),
    });
    (world, violation.or(leak))
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
        if let Some(progress) = std::env::var_os("SIMULATION_PROGRESS") {
            std::fs::write(progress, seed.to_string()).unwrap();
        }
        let (mut world, violation) = history(seed, with_trace);
        if with_trace {
            for line in world.trace.take().unwrap_or_default() {
                println!("{line}");
            }
        }
        if std::env::var_os("SIMULATION_CALLS").is_some() && world.judge.failed > 0 {
            let judge = &world.judge;
            println!(
                "calls {} requests {} failed {} {seed}",
                judge.calls, judge.requests, judge.failed
            );
        }
        if let Some(violation) = violation {
            println!("seed {seed}: {}: {}", violation.invariant, violation.what);
            println!("  replay: cargo xtask simulate --seeds 1 --from {seed}");
            found += 1;
            if std::env::var_os("SIMULATION_FIRST").is_some() {
                break;
            }
        }
    }
    println!("{seeds} seeds from {from} in {:?}", begun.elapsed());
    assert_eq!(found, 0, "{found} seeds broke an invariant");
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    for seed in [1, 7, 23] {
        let mut traces = (0..2).map(|_| {
            let (mut world, _) = history(seed, true);
            world.trace.take().unwrap_or_default()
        });
        let (first, second) = (traces.next().unwrap(), traces.next().unwrap());
        assert!(first.len() > 20, "{}", first.len());
        assert!(first == second, "seed {seed}");
    }
}

/// I13. Whatever was begun ends as if its client had waited for it.
#[test]
fn the_end_is_the_same_whether_or_not_the_client_stays() {
    let mut compared = 0;
    for seed in 0..variable("SIMULATION_PAIRS").unwrap_or(100) {
        let ends = [0, 100].map(|hang_ups| {
            let mut world = World::new(Plan::honest(seed, hang_ups), false);
            let violation = world.run();
            assert!(violation.is_none(), "seed {seed}: {violation:?}");
            world.end_states
        });
        let [stays, leaves] = ends;
        for (intent, state) in leaves {
            assert_eq!(
                stays.get(&intent),
                Some(&state),
                "seed {seed}, intent {intent}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 50, "{compared}");
}

/// As `cargo xtask simulate --faults` does it, without building anything.
#[test]
fn each_fault_can_be_put_back() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = std::fs::read_dir(root.join("tests/simulation/faults")).unwrap();
    let mut checked = 0;
    for patch in faults.map(|entry| entry.unwrap().path()) {
        let applied = std::process::Command::new("git")
            .current_dir(root)
            .args(["apply", "--check"])
            .arg(&patch)
            .status();
        assert!(applied.unwrap().success(), "{}", patch.display());
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}
