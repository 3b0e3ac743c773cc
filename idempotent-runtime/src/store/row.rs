//! A record as a store has read it, and what it decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Acquired, Claim, RecordStatus};
use crate::fingerprint::Fingerprint;
use crate::record::{DecodeError, Record, RecordState, StoredResponse, Token};

/// A record that has not expired, as it was at one moment of its store's clock.
pub(super) struct Row<R> {
    pub(super) fingerprint: Fingerprint,
    /// Missing once its owner has abandoned the claim.
    pub(super) token: Option<Token>,
    pub(super) attempt: u32,
    pub(super) age: Duration,
    /// Zero once the lease has ended.
    pub(super) lease_left: Duration,
    pub(super) expires_in: Duration,
    /// Encoded. Missing until the record is completed.
    pub(super) response: Option<R>,
}

/// What decides nothing.
#[derive(Default)]
pub(super) struct Details {
    pub(super) operation: Arc<str>,
    pub(super) label: Option<Arc<str>>,
    pub(super) progress: Bytes,
}

impl<R: AsRef<[u8]>> Row<R> {
    /// What the record says to a claim that takes nothing over: steps 2 to 5 and 7 of
    /// [`Store::claim`](super::Store::claim).
    pub(super) fn claim(
        &self,
        fingerprint: &Fingerprint,
        token: Token,
    ) -> Result<Claim, DecodeError> {
        let (attempt, age, lease_left) = (self.attempt, self.age, self.lease_left);
        Ok(match &self.response {
            _ if self.fingerprint != *fingerprint => Claim::Mismatch,
            Some(response) => Claim::Completed(decoded(response)?),
            None if self.token == Some(token) => Claim::Acquired(Acquired { attempt, age }),
            None if lease_left.is_zero() => Claim::Abandoned { attempt, age },
            None => Claim::InFlight { lease_left },
        })
    }

    /// The same, if it will be as true when the caller hears it: the record does not change any more.
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    pub(super) fn replay(
        &self,
        fingerprint: &Fingerprint,
        token: Token,
    ) -> Result<Option<Claim>, DecodeError> {
        if self.response.is_none() && self.fingerprint == *fingerprint {
            return Ok(None);
        }
        self.claim(fingerprint, token).map(Some)
    }

    pub(super) fn record(self, details: Details) -> Result<Record, DecodeError> {
        let state = match &self.response {
            Some(response) => RecordState::Completed(decoded(response)?),
            None if self.lease_left.is_zero() => RecordState::Abandoned,
            None => RecordState::Running {
                lease_left: self.lease_left,
            },
        };
        Ok(Record {
            fingerprint: self.fingerprint,
            operation: details.operation,
            label: details.label,
            attempt: self.attempt,
            age: self.age,
            expires_in: self.expires_in,
            state,
            progress: details.progress,
        })
    }
}

fn decoded(response: &impl AsRef<[u8]>) -> Result<Arc<StoredResponse>, DecodeError> {
    StoredResponse::decode(response.as_ref()).map(Arc::new)
}

/// How a record is listed, with what is left of its lease: nothing unless it is in flight.
pub(super) fn status(is_completed: bool, lease_left: Duration) -> (RecordStatus, Duration) {
    match is_completed {
        true => (RecordStatus::Completed, Duration::ZERO),
        false if lease_left.is_zero() => (RecordStatus::Abandoned, Duration::ZERO),
        false => (RecordStatus::InFlight, lease_left),
    }
}
