//! What a user asks of a benchmark.

use std::path::PathBuf;

#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) quick: bool,
    pub(super) rounds: Option<u32>,
    pub(super) seconds: Option<u32>,
    pub(super) json: bool,
    pub(super) write: bool,
    pub(super) chart: Option<PathBuf>,
    /// Empty means all; so it does for the next four.
    pub(super) implementations: Vec<String>,
    pub(super) modes: Vec<String>,
    pub(super) bodies: Vec<String>,
    pub(super) stores: Vec<String>,
    pub(super) records: Vec<String>,
}

pub(super) fn parse(arguments: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let missing = || format!("{argument} wants a value");
            arguments.next().copied().ok_or_else(missing)
        };
        match *argument {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--write" => options.write = true,
            "--rounds" => options.rounds = Some(number(value()?)?),
            "--seconds" => options.seconds = Some(number(value()?)?),
            "--chart" => options.chart = Some(value()?.into()),
            "--impl" => options.implementations = list(value()?),
            "--mode" => options.modes = list(value()?),
            "--body" => options.bodies = list(value()?),
            "--records" => options.records = list(value()?),
            "--store" => options.stores = list(value()?),
            unknown => return Err(format!("there is no {unknown}\n{}", super::HELP)),
        }
    }
    Ok(options)
}

impl Options {
    pub(super) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    pub(super) fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 5 })
    }
}

/// Whether a list that the user gave has this in it; an empty one has all.
pub(super) fn includes(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|listed| listed == name)
}

/// Refuses names that nothing has, so that a misspelt one does not measure less in silence.
pub(super) fn check<'a>(
    list: &[String],
    known: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let known: Vec<_> = known.collect();
    match list.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(format!("there is no `{name}`, but {}", known.join(", "))),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text} is no number of rounds or seconds"))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
