//! `cargo xtask bench`: what it all costs, measured on this machine.
//!
//! What has dependencies is in the crate `idempotent-benches`; here are the processes, the cores and the
//! tables.

use std::process::ExitCode;

use crate::complain;

pub(crate) use instructions::guard_if_installed;

mod document;
mod http;
mod instructions;
mod machine;
mod measurer;
mod options;
mod stores;

pub(crate) const HELP: &str = "\
  bench http     requests a second, processor time, latency and memory behind axum, beside bare axum and
                 other implementations, one server after the other in rounds
                   --quick              one round of one second
                   --rounds N           5 unless said otherwise
                   --seconds N          how long each lasts, 5 unless said otherwise
                   --impl A,B           only these (and `bare`, which is what ratios are to)
                   --mode A,B           only these of: first, replay, replays, keyless
                   --body A,B           only these of: 200, 65536
                   --json               a line for each row instead of tables
                   --write              puts the tables into PERFORMANCE.md too
                   --chart FILE         draws one, as SVG
  bench workers  requests a second with one worker and with two, in one process and without a socket
                   --quick, --rounds N, --seconds N, --json, --write
  bench stores   throughput, latency, round trips and bytes of log of each store
                   --quick, --rounds N, --seconds N, --json, --write
                   --store A,B          only these of: redis, redis-aof, postgres, sqlite, mysql
  bench instructions
                 instructions of a request, counted by valgrind, which is installed as for `test`
                   --write
  bench guard    compares those counts with the recorded ones, which may differ by 2 %
                   --write              records them
  bench scale    time and room of claims, replays and sweeps, with more and more records
                   --quick, --json, --write
                   --store A,B          only these of: memory, redis, postgres, sqlite, mysql
                   --records A,B        only these of: 10000, 100000, 1000000, 10000000

                 They want Linux, two cores that nothing else uses, and Debian's wrk, redis-server and
                 postgresql, which are installed as for `test`.
";

pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let done = match arguments {
        ["http", rest @ ..] => options::parse(rest).and_then(|options| http::run(&options)),
        ["stores", rest @ ..] => options::parse(rest).and_then(|options| stores::stores(&options)),
        ["workers", rest @ ..] => {
            options::parse(rest).and_then(|options| stores::workers(&options))
        }
        ["instructions", rest @ ..] => {
            options::parse(rest).and_then(|options| instructions::run(&options))
        }
        ["guard", rest @ ..] => {
            options::parse(rest).and_then(|options| instructions::guard(&options))
        }
        ["scale", rest @ ..] => options::parse(rest).and_then(|options| stores::scale(&options)),
        _ => Err(format!("what is to be measured?\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            complain(&cause);
            ExitCode::FAILURE
        }
    }
}
