//! `idempotent`: what a crash has left behind, for the people who have to decide about it.
//!
//! The problem: a process died in the middle of a charge, and its key answers `outcome-unknown` until a person has
//! looked at the bank's statement. This tool lists such keys, shows what is stored for them, and stores the decision,
//! with a name and a reason.
//!
//! The guarantee: it looks without changing anything (no table is made); `resolve` never touches an attempt whose lease
//! runs, nor another one than was looked at, while `forget`, which has to be insisted on, removes whatever there is when
//! it arrives; and it prints no key, no scope, no header value, no body and no password unless `--reveal` asks for the response.

#![forbid(unsafe_code)]

mod arguments;
mod body;
mod doctor;
mod failure;
mod forget;
mod json;
mod list;
mod migrate;
mod output;
mod pages;
mod place;
mod purge;
mod resolve;
mod response;
mod selection;
mod settings;
mod show;
mod stats;
mod time;
mod verdict;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;
use crate::output::Output;

/// What a command says by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It was done, or found.
    Yes,
    /// Nothing was found, or nothing was changed.
    No,
    /// Something is wrong, and was told.
    Broken,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(Failure::new(format!("cannot start: {error}"))),
    };
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Broken) => ExitCode::from(2),
        Err(failure) => failure.report(),
    }
}

/// Decisions and warnings of the runtime, each with its time: what an operator redirects to keep it.
fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(LevelFilter::WARN)
        .with_target(false)
        .with_ansi(false)
        .init();
}

async fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut output = Output::to_stdout();
    let settings = &arguments.settings;
    let answer = match &arguments.command {
        Command::List(command) => list::run(settings, command, &mut output).await,
        Command::Show(command) => show::run(settings, command, &mut output).await,
        Command::Resolve(command) => resolve::run(settings, command, &mut output).await,
        Command::Forget(command) => forget::run(settings, command, &mut output).await,
        Command::Stats(command) => stats::run(settings, command, &mut output).await,
        Command::Doctor(command) => doctor::run(settings, command, &mut output).await,
        Command::Migrate(command) => migrate::run(settings, command, &mut output).await,
        Command::Purge => purge::run(settings, &mut output).await,
    }?;
    output.finish()?;
    Ok(answer)
}
