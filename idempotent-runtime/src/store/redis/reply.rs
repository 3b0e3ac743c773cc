//! What the scripts answer, and what the driver's errors mean.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, RetryMethod, Value};
use bytes::Bytes;

use super::NAME;
use crate::fingerprint::Fingerprint;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::{Claim, Completion, Progress, Release, StoreError, StoreErrorKind};

pub(super) fn claim(reply: &[Value]) -> Result<Claim, StoreError> {
    match parts(reply) {
        Some((b"acquired", [Value::Int(attempt), Value::Int(age)])) => Ok(Claim::Acquired {
            attempt: number(*attempt)?,
            age: millis(*age),
        }),
        Some((b"completed", [Value::BulkString(bytes)])) => response(bytes).map(Claim::Completed),
        Some((b"in flight", [Value::Int(lease_left)])) => Ok(Claim::InFlight {
            lease_left: millis(*lease_left),
        }),
        Some((b"abandoned", [Value::Int(attempt), Value::Int(age)])) => Ok(Claim::Abandoned {
            attempt: number(*attempt)?,
            age: millis(*age),
        }),
        Some((b"mismatch", [])) => Ok(Claim::Mismatch),
        other => Err(unreadable(other)),
    }
}

pub(super) fn completion(reply: &[Value]) -> Result<Completion, StoreError> {
    match parts(reply) {
        Some((b"stored", [])) => Ok(Completion::Stored),
        Some((b"already mine", [])) => Ok(Completion::AlreadyMine),
        Some((b"lost", [])) => Ok(Completion::Lost),
        other => Err(unreadable(other)),
    }
}

pub(super) fn progress(reply: &[Value]) -> Result<Progress, StoreError> {
    match parts(reply) {
        Some((b"saved", [])) => Ok(Progress::Saved),
        Some((b"lost", [])) => Ok(Progress::Lost),
        other => Err(unreadable(other)),
    }
}

pub(super) fn release(reply: &[Value]) -> Result<Release, StoreError> {
    match parts(reply) {
        Some((b"released", [])) => Ok(Release::Released),
        Some((b"lost", [])) => Ok(Release::Lost),
        other => Err(unreadable(other)),
    }
}

/// Whether the claim was held.
pub(super) fn renewal(reply: &[Value]) -> Result<bool, StoreError> {
    match parts(reply) {
        Some((b"renewed", [])) => Ok(true),
        Some((b"lost", [])) => Ok(false),
        other => Err(unreadable(other)),
    }
}

pub(super) fn removal(reply: &[Value]) -> Result<bool, StoreError> {
    match parts(reply) {
        Some((b"removed", [Value::Int(removed)])) => Ok(*removed > 0),
        other => Err(unreadable(other)),
    }
}

pub(super) fn record(reply: &[Value]) -> Result<Option<Record>, StoreError> {
    let (state, fingerprint, [attempt, age, expires_in], rest, progress) = match parts(reply) {
        Some((b"absent", [])) => return Ok(None),
        Some((
            state,
            [
                Value::BulkString(fingerprint),
                Value::Int(attempt),
                Value::Int(age),
                Value::Int(expires_in),
                rest,
                Value::BulkString(progress),
            ],
        )) => {
            let numbers = [*attempt, *age, *expires_in];
            (state, fingerprint, numbers, rest, progress)
        }
        other => return Err(unreadable(other)),
    };
    let state = match (state, rest) {
        (b"running", Value::Int(lease_left @ 1..)) => RecordState::Running {
            lease_left: millis(*lease_left),
        },
        (b"running", Value::Int(_)) => RecordState::Abandoned,
        (b"completed", Value::BulkString(bytes)) => RecordState::Completed(response(bytes)?),
        _ => return Err(corrupt("a record of an unknown form")),
    };
    let fingerprint: [u8; 32] = fingerprint.as_slice().try_into().map_err(corrupt)?;
    Ok(Some(Record {
        fingerprint: Fingerprint::from_bytes(fingerprint),
        attempt: number(attempt)?,
        age: millis(age),
        expires_in: millis(expires_in),
        state,
        progress: Bytes::copy_from_slice(progress),
    }))
}

/// The word that a reply begins with, and the rest.
fn parts(reply: &[Value]) -> Option<(&[u8], &[Value])> {
    match reply.split_first()? {
        (Value::BulkString(word), rest) => Some((word, rest)),
        _ => None,
    }
}

fn unreadable(reply: Option<(&[u8], &[Value])>) -> StoreError {
    match reply {
        Some((b"corrupt", [Value::BulkString(what)])) => corrupt(String::from_utf8_lossy(what)),
        _ => corrupt("a script's reply has an unknown form"),
    }
}

fn response(bytes: &[u8]) -> Result<Arc<StoredResponse>, StoreError> {
    StoredResponse::decode(bytes).map(Arc::new).map_err(corrupt)
}

fn number(attempt: i64) -> Result<u32, StoreError> {
    u32::try_from(attempt).map_err(corrupt)
}

/// A time that has passed is zero: also when the server's clock was set back.
fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
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
