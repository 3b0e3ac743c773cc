//! Whether the server lets this user run what the store sends.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Value, cmd};

use super::error::CallError;
use super::name::Name;
use super::scripts;
use crate::store::{Finding, StoreError};

/// By trying, on a record that is not there, so that nothing is written.
pub(super) async fn check(
    connection: &mut impl ConnectionLike,
    missing: &Name,
) -> Result<Finding, StoreError> {
    let mut refused = Vec::new();
    for (name, command) in commands(missing) {
        match command.query_async::<Value>(connection).await {
            Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => refused.push(name),
            Err(error) if error.code().is_none() => {
                return Err(CallError::of_one_try(error).into());
            }
            // A server that takes no writes now says so, and one that does not know the script.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(match refused.is_empty() {
        true => Finding::good("this user may run the store's commands"),
        false => Finding::danger(
            format!(
                "the server does not let this user run {}",
                refused.join(", ")
            ),
            "a claim may be acquired that cannot be renewed and completed: its handler runs, and its key answers `in-flight` and then `outcome-unknown`",
            "allow all the commands that the store's documentation names, on its keys, or use a server or a proxy that has them",
        ),
    })
}

fn commands(missing: &Name) -> [(&'static str, Cmd); 10] {
    let of = |name: &'static str, arguments: &[&str]| {
        let mut command = cmd(name);
        command.arg(missing.as_bytes()).arg(arguments);
        (name, command)
    };
    [
        of("SET", &["", "XX", "PX", "1"]),
        of("GET", &[]),
        of("GETRANGE", &["0", "0"]),
        of("STRLEN", &[]),
        of("SETRANGE", &["0", ""]),
        of("PTTL", &[]),
        of("PEXPIRE", &["1"]),
        of("DEL", &[]),
        ("EVAL", scripts::PEEK.by_code(missing, &[])),
        ("EVALSHA", scripts::PEEK.by_sha(missing, &[])),
    ]
}
