//! `cargo xtask dependencies`: bans, licences and sources as deny.toml says, from what cargo has downloaded already.
//! No network and nothing to install; advisories are for `cargo deny check`.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use crate::{complain, say};

const DENY: &str = include_str!("../../deny.toml");
const LOCK: &str = include_str!("../../Cargo.lock");

/// What a release is built and tested with on this machine: the packages of other platforms are not downloaded.
const TREE: &str = "tree --offline --workspace --exclude idempotent-benches --exclude idempotent-client-suite --all-features \
     --prefix none --format";

pub(crate) fn check() -> ExitCode {
    let mistakes = packages().map(|packages| {
        say(&format!("{} packages, against deny.toml", packages.len()));
        let mistakes = packages.iter().filter_map(|it| mistake(it));
        mistakes.chain(other_sources()).collect()
    });
    let mistakes: Vec<String> = mistakes.unwrap_or_else(|error| vec![error]);
    mistakes.iter().for_each(|mistake| complain(mistake));
    ExitCode::from(u8::from(!mistakes.is_empty()))
}

/// Lines such as `serde v1.0.229|MIT OR Apache-2.0`.
fn packages() -> Result<BTreeSet<String>, String> {
    let mut tree = Command::new("cargo");
    let tree = tree.args(TREE.split(' ')).arg("{p}|{l}").output();
    let tree = tree.map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !tree.status.success() {
        return Err(String::from_utf8_lossy(&tree.stderr).into_owned());
    }
    let tree = String::from_utf8_lossy(&tree.stdout);
    let lines = tree.lines().map(|line| line.trim_end_matches(" (*)"));
    Ok(lines
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect())
}

/// What is wrong with a package.
fn mistake(package: &str) -> Option<String> {
    let (id, license) = package.split_once('|')?;
    if quoted(DENY, "crate = ").any(|banned| banned == name(id)) {
        return Some(format!("{id} is banned by deny.toml"));
    }
    let (_, list) = DENY.split_once("\nallow = [")?;
    let allowed: Vec<&str> = list
        .split(']')
        .next()?
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let is_good = is_allowed(license, &allowed);
    (!is_good).then(|| format!("{id}: the license `{license}` is not allowed by deny.toml"))
}

/// The texts in quotes that come after the word.
fn quoted<'a>(text: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(after)
        .skip(1)
        .filter_map(|it| it.split('"').nth(1))
}

fn name(package: &str) -> &str {
    package.split(' ').next().unwrap_or_default()
}

/// Whether an SPDX expression can be satisfied: one side of an `OR`, both of an `AND`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut is_good = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_good |= all_of(words, allowed);
    }
    is_good
}

fn all_of(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut is_good = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_good &= one(words, allowed);
    }
    is_good
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return any_of(words, allowed) & words.next_if_eq(&")").is_some();
    }
    let is_good = words.next().is_some_and(|word| allowed.contains(&word));
    // An exception is a licence of its own, and none is allowed.
    let has_exception = words
        .next_if_eq(&"WITH")
        .and_then(|_| words.next())
        .is_some();
    is_good && !has_exception
}

/// A package from git, or from a second registry; of the lock file, which has those of all platforms.
fn other_sources() -> impl Iterator<Item = String> {
    let sources: BTreeSet<&str> = quoted(LOCK, "\nsource = ").collect();
    let registries = sources
        .iter()
        .filter(|it| it.starts_with("registry+"))
        .count();
    let others = sources
        .into_iter()
        .filter(move |it| !it.starts_with("registry+") || registries > 1);
    others.map(|source| format!("Cargo.lock has packages of another source: {source}"))
}

#[cfg(test)]
mod tests {
    use super::{is_allowed, mistake};

    #[test]
    fn licenses_are_read_as_expressions() {
        let good = |expression| is_allowed(expression, &["MIT", "ISC", "Unicode-3.0"]);
        for expression in [
            "MIT",
            "Apache-2.0/MIT",
            "(GPL-3.0 OR MIT) AND Unicode-3.0",
            "X WITH Y OR MIT",
            "MIT AND ISC",
        ] {
            assert!(good(expression), "{expression}");
        }
        for expression in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT WITH Y",
            "(MIT",
            "MIT ISC",
            "GPL-3.0 OR ISC AND X",
        ] {
            assert!(!good(expression), "{expression}");
        }
    }

    #[test]
    fn what_deny_toml_bans_is_refused() {
        assert_eq!(mistake("serde v1.0.0|MIT OR Apache-2.0"), None);
        assert!(
            mistake("openssl v0.10.0|Apache-2.0")
                .unwrap()
                .contains("banned")
        );
        assert!(
            mistake("other v1.0.0|GPL-3.0-only")
                .unwrap()
                .contains("GPL-3.0-only")
        );
        assert!(mistake("other v1.0.0|").is_some());
    }
}
