//! Results as they are stored: as a response without a status, whose body is a version byte and JSON.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ExecuteError, ExecuteErrorKind};
use super::outcome::Execution;
use crate::canonical::canonicalize;
use crate::exact;
use crate::key::RecordKey;
use crate::record::{DecodeError, StoredResponse};
use crate::store::Claim;

/// What no HTTP response has.
const STATUS: u16 = 0;

const VERSION: u8 = 1;

impl StoredResponse {
    /// The result of a function without HTTP, for a recovery function that has found it:
    /// `Recovery::Replay(StoredResponse::of_value(&receipt)?)`.
    ///
    /// # Errors
    ///
    /// If the value has no JSON that reads back as the same value: it does not serialize, it contains a float that is
    /// not finite or a `Some` that serializes as `null` (`Some(())`, `Some(None)`), or it is nested deeper than 127
    /// levels.
    pub fn of_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let body = [&[VERSION], &*exact::to_vec(value)?].concat();
        Ok(result(Some(body.into())))
    }

    /// Like `of_value`, from JSON that an operator has written. It must have the form in which the function's result
    /// serializes.
    ///
    /// # Errors
    ///
    /// If the text is not JSON. Also, as an [`is_data`](serde_json::Error::is_data) error, if it would not be replayed
    /// as written: it has a number that 64 bits cannot hold, or a duplicate member.
    pub fn of_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let value: serde_json::Value = serde_json::from_slice(text)?;
        let read_back = canonicalize(value.to_string().as_bytes());
        if read_back.is_none() || read_back != canonicalize(text) {
            let message = "a number that 64 bits cannot hold, or a member that is there twice";
            return Err(serde::de::Error::custom(message));
        }
        Self::of_value(&value)
    }
}

fn result(body: Option<Bytes>) -> StoredResponse {
    StoredResponse::of_parts(STATUS, Default::default(), body)
}

/// What is stored of a result: a tombstone of one that is too large, or that would not read back as
/// it is. It was executed all the same.
pub(super) fn kept<T: Serialize>(record: &RecordKey, value: &T, limit: usize) -> StoredResponse {
    let stored = match StoredResponse::of_value(value) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(%record, %error, result = std::any::type_name::<T>(),
                "a result cannot be replayed: its caller gets it, and retries get `NotRetained`");
            return result(None);
        }
    };
    let bytes = stored.body.as_ref().map_or(0, |body| body.len() - 1);
    if bytes > limit {
        tracing::warn!(%record, bytes, limit,
            "a result is too large to be stored: its caller gets it, and retries get `NotRetained`");
        return result(None);
    }
    stored
}

/// What a call comes to by the state of its record, or what its owner goes on with.
pub(super) fn decided<A, T: DeserializeOwned>(
    claim: Claim<A>,
) -> Result<ControlFlow<Execution<T>, A>, ExecuteError> {
    Ok(Break(match claim {
        Claim::Acquired(owner) => return Ok(Continue(owner)),
        Claim::Completed(stored) => replay(&stored)?,
        Claim::InFlight { lease_left } => Execution::InFlight {
            retry_after: lease_left,
        },
        Claim::Abandoned { .. } => Execution::OutcomeUnknown,
        Claim::Mismatch => Execution::Mismatch,
    }))
}

/// The outcome that is stored.
fn replay<T: DeserializeOwned>(stored: &StoredResponse) -> Result<Execution<T>, ExecuteError> {
    if stored.status != STATUS {
        return Err(ExecuteError::new(ExecuteErrorKind::HttpResponse));
    }
    match &stored.body {
        Some(body) => read(body).map(Execution::Replayed),
        None => Ok(Execution::NotRetained),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ExecuteError> {
    let unreadable = ExecuteError::new(ExecuteErrorKind::Unreadable);
    match body.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| unreadable.caused_by(error))
        }
        Some((&version, _)) => Err(unreadable.caused_by(DecodeError::Version(version))),
        None => Err(unreadable.caused_by(DecodeError::Malformed("no version byte".into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: &'static [u8]) -> StoredResponse {
        result(Some(Bytes::from_static(bytes)))
    }

    /// What is stored where results may have so many bytes.
    fn kept<T: Serialize>(value: &T, limit: usize) -> StoredResponse {
        super::kept(&RecordKey::from_bytes([7; 32]), value, limit)
    }

    fn kind(stored: &StoredResponse) -> ExecuteErrorKind {
        replay::<u64>(stored).unwrap_err().kind()
    }

    #[test]
    fn what_is_stored_is_what_is_replayed() {
        let value = vec![(1_u64, Some("a".to_owned())), (u64::MAX, None)];
        let stored = StoredResponse::of_value(&value).unwrap();
        let decoded = StoredResponse::decode(&stored.encode()).unwrap();
        assert_eq!(replay(&decoded).unwrap(), Execution::Replayed(value));
    }

    #[test]
    fn the_bytes_are_a_version_and_json() {
        assert_eq!(StoredResponse::of_value(&7).unwrap(), stored(b"\x017"));
    }

    #[test]
    fn what_no_release_wrote_is_unreadable() {
        for bytes in [&b""[..], b"\x01", b"\x01\"7\"", b"\x01-7", b"\x027", b"7"] {
            assert_eq!(
                kind(&stored(bytes)),
                ExecuteErrorKind::Unreadable,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn an_http_response_is_no_result() {
        let mut response = stored(b"\x017");
        response.status = 200;
        assert_eq!(kind(&response), ExecuteErrorKind::HttpResponse);
    }

    #[test]
    fn the_limit_counts_the_bytes_of_the_json() {
        assert_eq!(kept(&1234, 4), stored(b"\x011234"));
        assert_eq!(kept(&1234, 3), result(None));
        assert_eq!(
            replay::<u64>(&result(None)).unwrap(),
            Execution::NotRetained
        );
    }

    #[test]
    fn a_result_that_would_not_read_back_leaves_a_tombstone() {
        let no_json = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(kept(&no_json, 1000), result(None));
        assert_eq!(kept(&f64::NAN, 1000), result(None));
        assert_eq!(kept(&Some(()), 1000), result(None));
    }
}
