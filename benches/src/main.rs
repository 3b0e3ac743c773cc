//! What `cargo xtask bench` measures with: servers to put load on, and load on stores.
//!
//! One binary with four subcommands, so that the peers are linked once. `xtask` starts it, pins it to
//! a core, and makes the tables; it can be started manually all the same.

use std::error::Error;
use std::process::ExitCode;

mod impls;
mod numbers;
mod report;
mod scale;
mod serve;
mod stores;
mod till;
mod workers;

/// Whatever went wrong; it is printed and ends the process.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "\
usage: idempotent-benches serve --impl NAME [--store URL]
       idempotent-benches stores --head
       idempotent-benches stores --store NAME=URL --rounds N --seconds N [--pgbench PATH] [--json]
       idempotent-benches workers [--rounds N] [--seconds N] [--json]
       idempotent-benches scale --head
       idempotent-benches scale --store NAME=URL --records N [--json]
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::complain(&format!("idempotent-benches: {}", report::chain(&*failure)));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(lexopt::Arg::Value(task)) if task == "serve" => serve::run(arguments),
        Some(lexopt::Arg::Value(task)) if task == "stores" => stores::run(arguments),
        Some(lexopt::Arg::Value(task)) if task == "scale" => scale::run(arguments),
        Some(lexopt::Arg::Value(task)) if task == "workers" => workers::run(arguments),
        _ => Err(USAGE.into()),
    }
}
