//! The command line. No key, scope or secret is on it: any user of the machine can read a command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use http::{HeaderValue, StatusCode};
use idempotent_runtime::Seen;
use idempotent_runtime::store::{ListCursor, RecordStatus};
use mime::Mime;

use crate::time;

const AFTER_HELP: &str = "\
Environment:
  IDEMPOTENCY_URL               the store, as --store
  IDEMPOTENCY_NAMESPACE         the service's namespace; default: none
  IDEMPOTENCY_SECRET            the service's secret; or --secret-file
  IDEMPOTENCY_PREVIOUS_SECRETS  its previous secrets, oldest first, one on each line; or --previous-secret-file
  NO_COLOR                      no colours, even on a terminal

Namespace and secrets are needed only to find a record by the client's key, and for `doctor`.

Exit codes:
  0  done, or found (doctor: all good)
  1  nothing found, or nothing changed (doctor: warnings)
  2  an error: the command line, the store (doctor: errors)";

/// Lists, shows and resolves the records of idempotent-runtime.
#[derive(Debug, Parser)]
#[command(name = "idempotent", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which store, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store and service")]
pub(crate) struct Settings {
    /// The store's URL; in the environment if it has a password
    #[arg(
        long,
        value_name = "URL",
        env = "IDEMPOTENCY_URL",
        hide_env = true,
        hide_env_values = true,
        global = true
    )]
    pub(crate) store: Option<String>,
    #[arg(
        long,
        value_name = "NAME",
        global = true,
        help = "Table of the records [default: idempotency_records] (SQL stores)"
    )]
    pub(crate) table: Option<String>,
    /// The schema that the table is in (PostgreSQL)
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) schema: Option<String>,
    /// Key prefix [default: idempotent:] (Redis)
    #[arg(long, value_name = "PREFIX", global = true)]
    pub(crate) prefix: Option<String>,
    /// The file with the service's secret; one line end at its end is ignored
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) secret_file: Option<PathBuf>,
    /// The file with a previous secret; may be repeated, the oldest first
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) previous_secret_file: Vec<PathBuf>,
    /// The service ran without a secret before the oldest one
    #[arg(long, global = true)]
    pub(crate) previously_without_secret: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records
    List(List),
    /// Show what is stored for a key
    Show(Show),
    /// Decide about an abandoned key: the request was carried out (--replay, --status, --value) or not (--retry)
    Resolve(Resolve),
    /// Remove a record, whatever its state: its key runs again
    Forget(Forget),
    /// Count records and bytes by operation and state; reads all records
    Stats(Stats),
    /// Create the table of a SQL store if it is missing
    Migrate(Migrate),
    /// Check the server, its settings, the table, the clocks, and whether namespace and secret are those of the service
    Doctor(Doctor),
    /// Remove expired records, and name those that were abandoned
    Purge,
}

/// Records whose state is this one.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    InFlight,
    Abandoned,
    Completed,
}

impl From<State> for RecordStatus {
    fn from(state: State) -> Self {
        match state {
            State::InFlight => Self::InFlight,
            State::Abandoned => Self::Abandoned,
            State::Completed => Self::Completed,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only records of this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<State>,
    /// Only records of this operation, such as `POST /payments`
    #[arg(long, value_name = "OPERATION")]
    pub(crate) operation: Option<String>,
    /// Only records with this label
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Only records first claimed at least this long ago: 90s, 10m, 24h, 7d
    #[arg(long, value_name = "AGE", value_parser = time::parse)]
    pub(crate) older_than: Option<Duration>,
    /// At most N records, then a cursor for the rest; by default all records (Redis may list a few more than N)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Continue where a listing with --limit ended
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    pub(crate) cursor: Option<ListCursor>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

fn cursor(text: &str) -> Result<ListCursor, String> {
    text.parse()
        .map_err(|error: idempotent_runtime::Error| error.to_string())
}

/// Which record: by its record key, by the client's key, or by the application's label.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of operation").args(["label", "key_stdin", "key_file"]).multiple(true))]
pub(crate) struct Selector {
    /// The record key: 64 hexadecimal digits, or the first ones (at least 4) if no other record has them. A
    /// shortened key is searched for in the whole store
    #[arg(value_name = "RECORD", conflicts_with_all = ["label", "operation"])]
    pub(crate) record: Option<String>,
    /// The label. It is searched for in the whole store, or among the records of --operation
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["key", "scope"])]
    pub(crate) label: Option<String>,
    /// The operation, with --key-stdin, --key-file or --label
    #[arg(long, value_name = "OPERATION", requires = "of operation")]
    pub(crate) operation: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeySource,
    /// The kind of the key: a header's value, the text given to `execute`, or the JSON of `key = expr`
    #[arg(long, value_name = "KIND", default_value = "header")]
    pub(crate) key_kind: KeyKind,
    #[command(flatten)]
    pub(crate) scope: ScopeSource,
}

#[derive(Debug, Args)]
#[group(id = "key", multiple = false)]
pub(crate) struct KeySource {
    /// Read the client's key from standard input; with --scope-json-stdin, from its first line
    #[arg(long, requires = "operation")]
    pub(crate) key_stdin: bool,
    /// Read the client's key from this file
    #[arg(long, value_name = "FILE", requires = "operation")]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(id = "scope", multiple = false)]
pub(crate) struct ScopeSource {
    /// Read the scope, as JSON, from standard input, after the line with the key
    #[arg(long, requires = "operation")]
    pub(crate) scope_json_stdin: bool,
    /// Read the scope, as JSON, from this file; by default there is no scope
    #[arg(long, value_name = "FILE", requires = "operation")]
    pub(crate) scope_json_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    Header,
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Show the values of headers, and the body
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who decides, and why.
#[derive(Debug, Args)]
pub(crate) struct Decision {
    /// Why. It is logged, and `resolve` stores it with a response or value: no secrets
    #[arg(long, value_name = "TEXT", required = true)]
    pub(crate) reason: String,
    /// Who decides. Required if USER is not set, as in a container
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["replay", "status", "value", "retry"]).required(true).multiple(true))]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Decide only if the attempt is still the one that `show` printed as `seen`; by default about the one abandoned now
    #[arg(long, value_name = "TEXT", value_parser = seen)]
    pub(crate) seen: Option<Seen>,
    #[command(flatten)]
    pub(crate) what: Verdict,
    /// With --value: the operation is a function without HTTP, although its name looks like a method and a route
    #[arg(long, conflicts_with_all = ["replay", "status", "retry"])]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) decision: Decision,
}

/// What became of the abandoned request.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Verdict {
    /// It was carried out, with this response: a file as `curl -i` prints it (status line, headers, an empty line,
    /// body). With --status, the file is the body alone. `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
    /// A function without HTTP ran, with this result: a file with JSON, as the result serializes. `-` is
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "status"])]
    pub(crate) value: Option<PathBuf>,
    /// It was carried out, with a response of this status, and the body of --replay or an empty one
    #[arg(long, value_name = "CODE", value_parser = status)]
    pub(crate) status: Option<StatusCode>,
    /// The media type of --replay's body, with --status
    #[arg(long, value_name = "TYPE", requires_all = ["status", "replay"], value_parser = media_type)]
    pub(crate) content_type: Option<HeaderValue>,
    /// The response or result is replayed for at least this long, and for as long as the record would have lived
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time::parse)]
    pub(crate) ttl: Duration,
    /// It was not carried out: the key is free, and finished steps run again
    #[arg(long, conflicts_with_all = ["replay", "status", "value", "ttl"])]
    pub(crate) retry: bool,
}

fn seen(text: &str) -> Result<Seen, String> {
    let seen = text.parse();
    seen.map_err(|_| "expected what `show` prints as `seen`, such as 1@1780000000000".to_owned())
}

fn media_type(text: &str) -> Result<HeaderValue, String> {
    const WRONG: &str =
        "expected a media type: `type/subtype`, and parameters such as `; charset=utf-8`";
    let is_whole = |it: &Mime| !it.subtype().as_str().is_empty();
    text.parse().ok().filter(is_whole).ok_or(WRONG)?;
    Ok(HeaderValue::from_str(text).map_err(|_| WRONG)?)
}

fn status(code: &str) -> Result<StatusCode, String> {
    let status = code.parse::<StatusCode>();
    let status = status.ok().filter(|it| (200..600).contains(&it.as_u16()));
    status.ok_or_else(|| "a final status is 200 to 599".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    pub(crate) selector: Selector,
    #[command(flatten)]
    pub(crate) decision: Decision,
    /// Confirm: the next request with this key runs, even if it was carried out before
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Print the statements for the database administrator, without connecting
    #[arg(long)]
    pub(crate) print: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn a_decision_needs_a_reason_and_a_verdict() {
        assert!(parse("idempotent resolve abcd --retry --reason none").is_ok());
        assert!(parse("idempotent resolve abcd --retry").is_err());
        assert!(parse("idempotent resolve abcd --reason none").is_err());
        assert!(parse("idempotent resolve abcd --retry --status 201 --reason none").is_err());
        assert!(parse("idempotent resolve abcd --status 199 --reason none").is_err());
        assert!(parse("idempotent forget abcd --yes").is_err());
        assert!(parse("idempotent resolve abcd --value a --seen 1@17 --reason none").is_ok());
        assert!(parse("idempotent resolve abcd --value a --yes --reason none").is_ok());
        assert!(parse("idempotent resolve abcd --retry --yes --reason none").is_err());
        for wrong in ["--retry", "--replay b", "--status 201", "--seen 1"] {
            let line = format!("idempotent resolve abcd --value a {wrong} --reason none");
            assert!(parse(&line).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_comes_with_its_operation_and_from_one_place() {
        assert!(parse("idempotent show --operation settle --key-stdin").is_ok());
        assert!(parse("idempotent show --operation settle").is_err());
        assert!(parse("idempotent show --key-stdin").is_err());
        assert!(parse("idempotent show --operation settle --key-stdin --key-file a").is_err());
        assert!(parse("idempotent show abcd --label order").is_err());
        assert!(parse("idempotent show --operation settle --label order").is_ok());
        assert!(parse("idempotent show abcd --operation settle").is_err());
        for wrong in ["--key-stdin", "--scope-json-stdin", "--scope-json-file a"] {
            let line = format!("idempotent show --operation settle --label order {wrong}");
            assert!(parse(&line).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_content_type_is_a_media_type() {
        for right in [
            "text/plain",
            "application/problem+json",
            "text/html; charset=\"utf-8\"",
        ] {
            assert_eq!(media_type(right).unwrap(), right);
        }
        for wrong in [
            "",
            "x y",
            "text",
            "text/",
            "text/plain json",
            "text/plain,text/html",
            "text/plain\n",
        ] {
            assert!(media_type(wrong).is_err(), "{wrong}");
        }
    }
}
