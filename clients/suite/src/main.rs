//! Both clients of the repository, and three others, pay through a network and on a server that fail.
//!
//! `cargo xtask client-suite` runs it. One program has all the parts, because each runs as a process of its own:
//! `client-suite run` starts the server and the clients, is the network between them, and checks the result;
//! `client-suite serve` is the server, and `client-suite pay` the clients that are written in Rust.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod arrivals;
mod client;
mod journal;
mod ledger;
mod options;
mod peer;
mod plan;
mod proxy;
mod round;
mod run;
mod server;
mod table;
mod till;
mod verdict;

/// Errors of a command line tool: they are shown, not matched.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match options::parse().and_then(start) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("client-suite: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(command: options::Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        options::Command::Run(options) => runtime.block_on(run::run(&options)),
        options::Command::Serve(options) => runtime.block_on(server::serve(&options)),
        options::Command::Pay(options) => runtime.block_on(till::pay(&options)),
    }
}

#[expect(clippy::print_stdout, reason = "a command line tool talks to its user")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn complain(text: &str) {
    eprintln!("{text}");
}
