//! What the server answers.

use std::time::Duration;

use ::redis::Value;

use super::error::NAME;
use super::line::ScriptReply;
use super::row::{Stored, Unreadable};
use crate::record::Record;
use crate::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Release, Renewed, StoreError,
    StoreErrorKind,
};

/// The first time that this record was claimed.
const FIRST: Claim = Claim::Acquired(Acquired {
    attempt: 1,
    age: Duration::ZERO,
});

/// What the server's own command has made of a claim; `None` when it cannot tell, and has written
/// nothing.
pub(super) fn plain_claim(
    reply: &Value,
    request: &ClaimRequest<'_>,
) -> Result<Option<Claim>, StoreError> {
    match reply {
        Value::Nil => Ok(Some(FIRST)),
        Value::BulkString(record) => Stored::read(record)
            .and_then(|stored| stored.replay(request))
            .map_err(unreadable),
        _ => Err(unknown()),
    }
}

pub(super) fn claim(reply: &Value, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
    match reply {
        Value::Okay => Ok(FIRST),
        Value::Array(parts) => match (&parts[..], request.take_over) {
            ([Value::BulkString(record), Value::Int(left)], _) => Stored::read(record)
                .and_then(|stored| stored.claim(request, *left))
                .map_err(unreadable),
            ([Value::Int(age)], Some(attempt)) => Ok(Claim::Acquired(Acquired {
                attempt: attempt.saturating_add(1),
                age: Duration::from_millis(u64::try_from(*age).unwrap_or(0)),
            })),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

pub(super) fn completion(reply: &Value) -> Result<Completion, StoreError> {
    match word(reply) {
        Some("OK") => Ok(Completion::Stored),
        Some("MINE") => Ok(Completion::AlreadyCompleted),
        Some("LOST") => Ok(Completion::Lost),
        _ => Err(unknown()),
    }
}

pub(super) fn progress(reply: &Value) -> Result<Progress, StoreError> {
    match reply {
        Value::Int(stored) => usize::try_from(*stored)
            .map(|stored_bytes| Progress::Behind { stored_bytes })
            .map_err(|_| unknown()),
        _ => is_held(reply).map(|is_held| match is_held {
            true => Progress::Saved,
            false => Progress::Lost,
        }),
    }
}

pub(super) fn renewed(reply: ScriptReply) -> Result<Renewed, StoreError> {
    is_held(&reply?).map(|is_held| match is_held {
        true => Renewed::Renewed,
        false => Renewed::Lost,
    })
}

pub(super) fn release(reply: ScriptReply) -> Result<Release, StoreError> {
    is_held(&reply?).map(|is_held| match is_held {
        true => Release::Released,
        false => Release::Lost,
    })
}

pub(super) fn grace(reply: &Value) -> Result<bool, StoreError> {
    is_held(reply)
}

/// Whether the claim was held, so that what was asked for is done.
fn is_held(reply: &Value) -> Result<bool, StoreError> {
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
        Value::Int(removed @ 0..) => Ok(*removed > 0),
        Value::Int(_) => Err(StoreError::new(NAME, StoreErrorKind::Unavailable)
            .with_source("another attempt has the key by now")),
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
                .map_err(unreadable),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

/// What `SCAN` answers: where the next one begins, and names.
pub(super) fn scanned(reply: &Value) -> Result<(u64, Vec<&[u8]>), StoreError> {
    let Value::Array(parts) = reply else {
        return Err(unknown());
    };
    let [Value::BulkString(next), Value::Array(names)] = &parts[..] else {
        return Err(unknown());
    };
    let next = str::from_utf8(next).ok().and_then(|next| next.parse().ok());
    let names = names.iter().filter_map(|name| match name {
        Value::BulkString(name) => Some(&name[..]),
        _ => None,
    });
    Ok((next.ok_or_else(unknown)?, names.collect()))
}

/// What is listed of a record.
pub(super) struct Peeked {
    /// The head and the names.
    pub(super) head: Vec<u8>,
    /// How long it lives yet, in milliseconds.
    pub(super) left: i64,
    /// How long all of it is, in bytes.
    pub(super) length: usize,
}

/// What `peek.lua` answers; `None` where there is no record any more.
pub(super) fn peeked(reply: &Value) -> Result<Option<Peeked>, StoreError> {
    match reply {
        Value::Array(parts) => match &parts[..] {
            [Value::BulkString(head), Value::Int(-2), _] if head.is_empty() => Ok(None),
            [
                Value::BulkString(head),
                Value::Int(left),
                Value::Int(length),
            ] => Ok(Some(Peeked {
                head: head.clone(),
                left: *left,
                length: usize::try_from(*length).unwrap_or(0),
            })),
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

/// It is about the server that replies so, and not about the record. What was done is unknown.
fn unknown() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable).with_source("a reply of an unknown form")
}

fn unreadable(cause: Unreadable) -> StoreError {
    let kind = match cause {
        Unreadable::OtherVersion(_) => StoreErrorKind::OtherRelease,
        Unreadable::Damaged(_) => StoreErrorKind::Corrupt,
    };
    StoreError::new(NAME, kind).with_source(cause)
}
