//! All rounds, one after the other.

use std::process::ExitCode;

use crate::options::Run;
use crate::plan::Client;
use crate::round::Round;
use crate::verdict::Verdict;
use crate::{Result, complain, say, table};

pub(crate) async fn run(options: &Run) -> Result<ExitCode> {
    say(&format!("   seed {}", options.seed));
    let (mut verdicts, mut mistakes) = (Vec::new(), Vec::new());
    for client in Client::ALL {
        if !is_wanted(options, client) {
            continue;
        }
        if let Some(missing) = missing(options, client) {
            complain(&format!("   {}: not run, {missing}", client.name()));
            continue;
        }
        match Round::new(options, client).run().await {
            Ok(verdict) => {
                say(&describe(&verdict));
                mistakes.extend(verdict.mistakes());
                verdicts.push(verdict);
            }
            Err(error) => mistakes.push(format!("{}: {error}", client.name())),
        }
    }
    say(&format!("\n{}", table::verdicts(&verdicts)));
    say(&format!("Faults: {}.", table::faults(&verdicts)));
    if mistakes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for mistake in &mistakes {
        complain(mistake);
    }
    complain(&format!(
        "the logs are in {}; --seed {} has the same faults",
        options.folder.display(),
        options.seed
    ));
    Ok(ExitCode::FAILURE)
}

fn is_wanted(options: &Run, client: Client) -> bool {
    if options.clients.is_empty() {
        return client.is_ours() || options.with_peers;
    }
    options.clients.contains(&client)
}

/// What a client needs and this machine does not have.
fn missing(options: &Run, client: Client) -> Option<&'static str> {
    if client.is_rust() {
        return None;
    }
    if options.node.is_none() {
        return Some("there is no Node");
    }
    if client != Client::JavaScript && !options.has_packages {
        return Some("its packages are not installed");
    }
    (client == Client::Page && options.chromium.is_none()).then_some("there is no Chromium")
}

fn describe(verdict: &Verdict) -> String {
    let tally = &verdict.tally;
    let earliest = if tally.early == 0 {
        String::new()
    } else {
        format!(" (up to {:.1} ms)", tally.earliest.as_secs_f64() * 1000.0)
    };
    format!(
        "   {}: {} intents, {} tries, {} charges, {} duplicates, {} early of {} waits{earliest}, {} unanswered, \
         {} server kills ({} charges found), {} client kills, {:.0} s",
        verdict.client.name(),
        verdict.intents,
        tally.tries,
        verdict.charges,
        verdict.duplicates,
        tally.early,
        tally.waits,
        verdict.unanswered,
        verdict.server_kills,
        verdict.repeated,
        verdict.client_kills,
        verdict.took.as_secs_f64(),
    )
}
