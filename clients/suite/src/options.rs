//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::Result;
use crate::plan::Client;

pub(crate) enum Command {
    Run(Run),
    Serve(Serve),
    Pay(Pay),
}

/// The whole suite.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Each client pays this many intents.
    pub(crate) intents: usize,
    /// How many intents the page pays in Chromium.
    pub(crate) pages: usize,
    pub(crate) seed: u64,
    /// Only these clients. Empty: all for which there is a program.
    pub(crate) clients: Vec<Client>,
    /// For the clients in JavaScript.
    pub(crate) node: Option<PathBuf>,
    /// Whether npm has installed what the page and the peers in JavaScript need.
    pub(crate) has_packages: bool,
    /// For the page.
    pub(crate) chromium: Option<PathBuf>,
    /// Where the logs of all rounds go. It is kept.
    pub(crate) folder: PathBuf,
    pub(crate) with_peers: bool,
}

/// The payments server.
#[derive(Debug, Default)]
pub(crate) struct Serve {
    /// The records, the ledger and the socket.
    pub(crate) folder: PathBuf,
}

/// One life of a client.
#[derive(Debug)]
pub(crate) struct Pay {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) intents: usize,
    pub(crate) concurrency: usize,
    /// What outlives the client.
    pub(crate) journal: PathBuf,
    /// How often this client was started before, in this round.
    pub(crate) life: u64,
}

const USAGE: &str = "usage: client-suite run --folder PATH [--intents N] [--pages N] [--seed N] [--client NAME].. \
     [--node PATH] [--packages] [--chromium PATH] [--no-peers]\n       \
     client-suite serve --folder PATH\n       \
     client-suite pay --client NAME --url URL --intents N --concurrency N --journal PATH --life N";

pub(crate) fn parse() -> Result<Command> {
    let mut arguments = lexopt::Parser::from_env();
    let command = match arguments.next()? {
        Some(Value(command)) => command.string()?,
        _ => return Err(USAGE.into()),
    };
    Ok(match command.as_str() {
        "run" => Command::Run(parse_run(arguments)?),
        "serve" => Command::Serve(parse_serve(arguments)?),
        "pay" => Command::Pay(parse_pay(arguments)?),
        _ => return Err(USAGE.into()),
    })
}

fn parse_run(mut arguments: lexopt::Parser) -> Result<Run> {
    let mut options = Run {
        intents: 10_000,
        pages: 50,
        seed: 1,
        with_peers: true,
        ..Run::default()
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("folder") => options.folder = arguments.value()?.into(),
            Long("intents") => options.intents = arguments.value()?.parse()?,
            Long("pages") => options.pages = arguments.value()?.parse()?,
            Long("seed") => options.seed = arguments.value()?.parse()?,
            Long("client") => options.clients.push(arguments.value()?.parse()?),
            Long("node") => options.node = Some(arguments.value()?.into()),
            Long("chromium") => options.chromium = Some(arguments.value()?.into()),
            Long("packages") => options.has_packages = true,
            Long("no-peers") => options.with_peers = false,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn parse_serve(mut arguments: lexopt::Parser) -> Result<Serve> {
    let mut options = Serve::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("folder") => options.folder = arguments.value()?.into(),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn parse_pay(mut arguments: lexopt::Parser) -> Result<Pay> {
    let mut options = Pay {
        client: Client::Rust,
        url: String::new(),
        intents: 0,
        concurrency: 1,
        journal: PathBuf::new(),
        life: 0,
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("client") => options.client = arguments.value()?.parse()?,
            Long("url") => options.url = arguments.value()?.string()?,
            Long("intents") => options.intents = arguments.value()?.parse()?,
            Long("concurrency") => options.concurrency = arguments.value()?.parse()?,
            Long("journal") => options.journal = arguments.value()?.into(),
            Long("life") => options.life = arguments.value()?.parse()?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}
