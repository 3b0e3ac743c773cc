//! What the server answers, and what the driver's errors mean.

use std::error::Error;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, RetryMethod, Value};

use super::NAME;
use super::stored::Stored;
use crate::record::Record;
use crate::store::{
    Claim, ClaimRequest, Completion, Progress, Release, StoreError, StoreErrorKind,
};

/// The first time that this record was claimed.
const FIRST: Claim = Claim::Acquired {
    attempt: 1,
    age: Duration::ZERO,
};

/// What the server's own command has made of a claim; `None` when it cannot tell, and has written
/// nothing.
pub(super) fn plain_claim(
    reply: &Value,
    request: &ClaimRequest,
) -> Result<Option<Claim>, StoreError> {
    match reply {
        Value::Nil => Ok(Some(FIRST)),
        Value::BulkString(record) => Stored::read(record)
            .and_then(|stored| stored.replay(request))
            .map_err(corrupt),
        _ => Err(unknown()),
    }
}

pub(super) fn claim(reply: &Value, request: &ClaimRequest) -> Result<Claim, StoreError> {
    match reply {
        Value::Okay => Ok(FIRST),
        Value::Array(parts) => match (&parts[..], request.take_over) {
            ([Value::BulkString(record), Value::Int(left)], _) => Stored::read(record)
                .and_then(|stored| stored.claim(request, *left))
                .map_err(corrupt),
            ([Value::Int(age)], Some(attempt)) => Ok(Claim::Acquired {
                attempt: attempt.saturating_add(1),
                age: Duration::from_millis(u64::try_from(*age).unwrap_or(0)),
            }),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

pub(super) fn completion(reply: &Value) -> Result<Completion, StoreError> {
    match word(reply) {
        Some("OK") => Ok(Completion::Stored),
        Some("MINE") => Ok(Completion::AlreadyMine),
        Some("LOST") => Ok(Completion::Lost),
        _ => Err(unknown()),
    }
}

pub(super) fn progress(reply: &Value) -> Result<Progress, StoreError> {
    is_held(reply).map(|is_held| match is_held {
        true => Progress::Saved,
        false => Progress::Lost,
    })
}

pub(super) fn release(reply: &Value) -> Result<Release, StoreError> {
    is_held(reply).map(|is_held| match is_held {
        true => Release::Released,
        false => Release::Lost,
    })
}

/// Whether the claim was held, so that what was asked for is done.
pub(super) fn is_held(reply: &Value) -> Result<bool, StoreError> {
    match word(reply) {
        Some("OK") => Ok(true),
        Some("LOST") => Ok(false),
        _ => Err(unknown()),
    }
}

pub(super) fn is_running(reply: &Value) -> Result<bool, StoreError> {
    match word(reply) {
        Some("RUNNING") => Ok(true),
        Some("ENDED") => Ok(false),
        _ => Err(unknown()),
    }
}

pub(super) fn removal(reply: &Value) -> Result<bool, StoreError> {
    match reply {
        Value::Int(removed) => Ok(*removed > 0),
        _ => Err(unknown()),
    }
}

pub(super) fn record(reply: &Value) -> Result<Option<Record>, StoreError> {
    match reply {
        Value::Nil => Ok(None),
        Value::Array(parts) => match &parts[..] {
            [Value::BulkString(record), Value::Int(left)] => Stored::read(record)
                .and_then(|stored| stored.record(*left))
                .map(Some)
                .map_err(corrupt),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

fn word(reply: &Value) -> Option<&str> {
    match reply {
        Value::Okay => Some("OK"),
        Value::SimpleString(word) => Some(word),
        _ => None,
    }
}

fn unknown() -> StoreError {
    corrupt("a reply of an unknown form")
}

fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Corrupt).with_source(cause)
}

/// The driver's error as a store's: by its kind and code, never by its text.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let kind = match (error.kind(), error.code(), error.retry_method()) {
        (ErrorKind::Io, ..) if error.is_timeout() => StoreErrorKind::TimedOut,
        (ErrorKind::Io, ..) => StoreErrorKind::Unavailable,
        // Over `maxmemory` under `noeviction`.
        (_, Some("OOM"), _) => StoreErrorKind::Full,
        // The value is no string, or a script says that it is no record.
        (_, Some("WRONGTYPE" | "CORRUPT"), _) => StoreErrorKind::Corrupt,
        // A reply that is none of a script's.
        (ErrorKind::UnexpectedReturnType, ..) => StoreErrorKind::Corrupt,
        // The server has understood and said no. (A script of ours that is refused is refused
        // before its first write.)
        (_, _, RetryMethod::NoRetry) => StoreErrorKind::Rejected,
        // No server, the wrong one, or one that is not ready: a Cluster client has tried several
        // times, and one of them may have got through.
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(NAME, kind).with_source(error)
}
