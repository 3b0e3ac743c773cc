//! Which record a command is about.

use std::io;
use std::path::Path;

use idempotent_runtime::store::{ListFilter, ListedRecord, RecordStatus};
use idempotent_runtime::{Idempotency, Locator, RecordKey};
use serde_json::Value;

use crate::arguments::{KeyKind, Selector};
use crate::failure::Failure;
use crate::output::{name_of, plain};
use crate::pages::{PAGE, Pages};
use crate::settings::without_line_end;
use crate::time::short;

/// Fewer digits than that are a guess.
const LEAST_DIGITS: usize = 4;

/// How many of several records are named.
const MOST_NAMED: usize = 20;

/// What a selector names.
pub(crate) struct Selected {
    pub(crate) locator: Locator,
    /// Its record key, unless it is named by the client's key: then it can have a record for each secret.
    pub(crate) key: Option<RecordKey>,
}

impl From<RecordKey> for Selected {
    fn from(key: RecordKey) -> Self {
        Self {
            locator: Locator::by_record_key(key),
            key: Some(key),
        }
    }
}

/// The records that a selector names, as far as it is known whether there are any.
enum Named {
    /// By a whole key: whether or not there is such a record.
    ByKey(Selected),
    /// By a part of the record key, or by a label.
    Listed(Vec<ListedRecord>),
}

/// The records that a selector names. By the client's key, it is one, whether or not there is such a record.
pub(crate) async fn all(
    idempotency: &Idempotency,
    selector: &Selector,
) -> Result<Vec<Selected>, Failure> {
    match named(idempotency, selector).await? {
        Named::ByKey(selected) => Ok(vec![selected]),
        Named::Listed(listed) if selector.record.is_some() && listed.len() > 1 => {
            Err(ambiguous(&listed))
        }
        Named::Listed(listed) => Ok(listed.iter().map(|record| record.key.into()).collect()),
    }
}

/// The only record that a selector names; `None` without one.
pub(crate) async fn one(
    idempotency: &Idempotency,
    selector: &Selector,
) -> Result<Option<Selected>, Failure> {
    match named(idempotency, selector).await? {
        Named::ByKey(selected) => Ok(Some(selected)),
        Named::Listed(listed) => only(&listed),
    }
}

/// The same, for a decision: of several records with a label, the one that is abandoned, unless another one has its operation
/// too. That can be a record of the same request, under another secret, which then has an answer or gets one.
pub(crate) async fn abandoned(
    idempotency: &Idempotency,
    selector: &Selector,
) -> Result<Option<Selected>, Failure> {
    let listed = match named(idempotency, selector).await? {
        Named::ByKey(selected) => return Ok(Some(selected)),
        Named::Listed(listed) => listed,
    };
    let is_abandoned = |it: &&ListedRecord| it.status == RecordStatus::Abandoned;
    let abandoned: Vec<_> = listed.iter().filter(is_abandoned).cloned().collect();
    match (abandoned.as_slice(), &selector.label) {
        ([one], Some(_)) if !listed.iter().any(|it| is_beside(it, one)) => only(&abandoned),
        _ => only(&listed),
    }
}

fn is_beside(record: &ListedRecord, other: &ListedRecord) -> bool {
    record.key != other.key && record.operation == other.operation
}

fn only(listed: &[ListedRecord]) -> Result<Option<Selected>, Failure> {
    match listed {
        [] => Ok(None),
        [record] => Ok(Some(record.key.into())),
        several => Err(ambiguous(several)),
    }
}

async fn named(idempotency: &Idempotency, selector: &Selector) -> Result<Named, Failure> {
    Ok(
        match (&selector.record, &selector.label, &selector.operation) {
            (Some(digits), _, _) => match digits.parse::<RecordKey>() {
                Ok(key) => Named::ByKey(key.into()),
                Err(_) => Named::Listed(with_prefix(idempotency, &prefix(digits)?).await?),
            },
            (None, Some(label), operation) => {
                Named::Listed(with_label(idempotency, label, operation.as_deref()).await?)
            }
            (None, None, Some(operation)) => {
                let locator = of_client_key(operation, selector, io::stdin())?;
                Named::ByKey(Selected { locator, key: None })
            }
            (None, None, None) => {
                return Err(Failure::with_remedy(
                    "which record?",
                    "name it by its record key, by --label, or by --operation with --key-stdin or --key-file",
                ));
            }
        },
    )
}

fn ambiguous(listed: &[ListedRecord]) -> Failure {
    let line = |record: &ListedRecord| {
        let (state, age) = (name_of(record.status), short(record.age));
        let operation = plain(&record.operation);
        format!(
            "\n  {}  {state}, {age} old, {operation}",
            record.key.to_hex()
        )
    };
    let lines: String = listed.iter().take(MOST_NAMED).map(line).collect();
    let message = format!("{} records match:{lines}", listed.len());
    Failure::with_remedy(
        message,
        "name one by its digits instead, or narrow a label by --operation (while a secret is rotated, a request has a record for each secret: --operation and the client's key name them together)",
    )
}

async fn with_label(
    idempotency: &Idempotency,
    label: &str,
    operation: Option<&str>,
) -> Result<Vec<ListedRecord>, Failure> {
    let mut filter = ListFilter::new().label(label);
    if let Some(operation) = operation {
        filter = filter.operation(operation);
    }
    let mut pages = Pages::new(idempotency, filter);
    let mut found = Vec::new();
    while let Some(records) = pages.next(PAGE).await? {
        found.extend(records);
    }
    Ok(found)
}

async fn with_prefix(
    idempotency: &Idempotency,
    digits: &str,
) -> Result<Vec<ListedRecord>, Failure> {
    let mut pages = Pages::new(idempotency, ListFilter::new());
    let mut found = Vec::new();
    while let Some(records) = pages.next(PAGE).await? {
        let begins_so = |record: &ListedRecord| record.key.to_hex().starts_with(digits);
        found.extend(records.into_iter().filter(begins_so));
    }
    Ok(found)
}

fn prefix(digits: &str) -> Result<String, Failure> {
    let is_prefix = (LEAST_DIGITS..64).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match is_prefix {
        true => Ok(digits.to_ascii_lowercase()),
        // Not repeated: it may be a client's key.
        false => Err(Failure::with_remedy(
            "that is not a record key: it has 64 hexadecimal digits, of which the first 4 or more are enough",
            "a client's key is never on the command line: --operation and --key-stdin or --key-file",
        )),
    }
}

/// From files and the input.
fn of_client_key(
    operation: &str,
    selector: &Selector,
    mut input: impl io::Read,
) -> Result<Locator, Failure> {
    let mut text = Vec::new();
    if selector.key.key_stdin || selector.scope.scope_json_stdin {
        let read = input.read_to_end(&mut text);
        read.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    }
    let (key, rest) = match &selector.key.key_file {
        Some(file) => (contents(file)?, text),
        // All of it without a scope: the text of a key may have any character.
        None if !selector.scope.scope_json_stdin => (text, Vec::new()),
        None => {
            let line = text.iter().position(|byte| *byte == b'\n');
            let rest = text.split_off(line.map_or(text.len(), |end| end + 1));
            (text, rest)
        }
    };
    let key = utf8("the key", without_line_end(&key))?;
    let locator = match selector.key_kind {
        KeyKind::Header => Locator::new(operation, key),
        KeyKind::Text => Locator::by_text(operation, key),
        KeyKind::Json => Locator::by_value(operation, &json("the key", key.as_bytes())?),
    };
    Ok(match &selector.scope.scope_json_file {
        Some(file) => locator.scope(&json("the scope", &contents(file)?)?),
        None if selector.scope.scope_json_stdin => locator.scope(&json("the scope", &rest)?),
        None => locator,
    })
}

fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

fn utf8(what: &str, bytes: &[u8]) -> Result<String, Failure> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| Failure::new(format!("{what} is not UTF-8")))
}

/// Of the mistake, only where it is.
fn json(what: &str, text: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::new(format!(
            "{what} is not JSON, at line {line}, column {column}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn selector(line: &str) -> Selector {
        let line = format!("idempotent show {line}");
        let Command::Show(show) = Arguments::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("it is another command");
        };
        show.selector
    }

    #[test]
    fn a_clients_key_is_not_taken_for_a_record_key_and_not_repeated() {
        assert_eq!(prefix("9F2f").unwrap(), "9f2f");
        for wrong in ["9f2", "8e03978e-40d5-43dd", &"a".repeat(65)] {
            let Err(Failure { message, .. }) = prefix(wrong) else {
                panic!("{wrong} is taken");
            };
            assert!(!message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn a_mistake_in_a_scope_does_not_show_it() {
        let Err(Failure { message, .. }) = json("the scope", b"{\"canary\": canary}") else {
            panic!("it is taken");
        };
        assert!(!message.contains("canary"), "{message}");
    }

    #[test]
    fn the_input_has_the_key_and_then_the_scope() {
        let both = selector("--operation pay --key-stdin --scope-json-stdin");
        assert!(of_client_key("pay", &both, &b"key\n[\"acme\",7]\n"[..]).is_ok());
        assert!(of_client_key("pay", &both, &b"key\n"[..]).is_err());
        let key = selector("--operation pay --key-stdin --key-kind json");
        assert!(of_client_key("pay", &key, &b"4711"[..]).is_ok());
        assert!(of_client_key("pay", &key, &b"not JSON"[..]).is_err());
    }
}
