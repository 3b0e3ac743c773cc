//! What a store is asked, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};

/// A request to become the owner of a record.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// The record, and the token that identifies this claim. A caller that got no reply repeats
    /// the call with the same token.
    pub owner: Owner,
    /// The fingerprint that the record must have.
    pub fingerprint: Fingerprint,
    /// The operation, stored in the record in clear text for operators: at most 128 bytes. A take-over keeps the
    /// record's own.
    pub operation: &'a str,
    /// The application's own reference, stored likewise: at most 64 bytes.
    pub label: Option<&'a str>,
    /// How long the claim lasts without renewal.
    pub lease: Duration,
    /// How long the record outlives its lease if it is not completed.
    pub retention: Duration,
    /// The [progress](crate::store::Store::save_progress) that a new record has from its beginning; empty for none. A take-over
    /// keeps the record's own.
    pub progress: &'a [u8],
    /// The abandoned attempt to take over; `None` takes over none. It is a number, not a flag: a decision to
    /// take over attempt 1 says nothing about attempt 2.
    pub take_over: Option<u32>,
}

impl<'a> ClaimRequest<'a> {
    /// Nothing is stored for none.
    #[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
    pub(crate) fn first_progress(&self) -> Option<&'a [u8]> {
        Some(self.progress).filter(|progress| !progress.is_empty())
    }

    /// A request without a label and without progress, which takes nothing over.
    #[must_use]
    pub const fn new(
        owner: Owner,
        fingerprint: Fingerprint,
        operation: &'a str,
        lease: Duration,
        retention: Duration,
    ) -> Self {
        Self {
            owner,
            fingerprint,
            operation,
            label: None,
            lease,
            retention,
            progress: &[],
            take_over: None,
        }
    }
}

/// The result of a [`ClaimRequest`]: what becomes of a request, given the state of its record.
///
/// `A` is what the owner of the claim gets. For a store it says which attempt this is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Claim<A = Acquired> {
    /// The caller is the owner and runs. Also the result of a repeated request with a token that already
    /// holds the claim, even if its lease has ended.
    Acquired(A),
    /// The record is completed.
    Completed(Arc<StoredResponse>),
    /// Another attempt is running.
    InFlight {
        /// The time until that claim's lease ends unless it is renewed.
        lease_left: Duration,
    },
    /// An attempt was running, and its lease has ended.
    Abandoned {
        /// The attempt that was abandoned.
        attempt: u32,
        /// The time since the first claim.
        age: Duration,
    },
    /// The record belongs to another request.
    Mismatch,
}

/// A claim that was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The number of the claim of this record: 1, or higher after a take-over.
    pub attempt: u32,
    /// The time since the first claim: zero if this call made it.
    pub age: Duration,
}

impl<A> Claim<A> {
    /// The same, with something else for the owner.
    pub(crate) fn map<B>(self, acquired: impl FnOnce(A) -> B) -> Claim<B> {
        self.and_then(|owner| Claim::Acquired(acquired(owner)))
    }

    /// The same, with something else instead of an acquired claim.
    pub(crate) fn and_then<B>(self, acquired: impl FnOnce(A) -> Claim<B>) -> Claim<B> {
        match self {
            Self::Acquired(owner) => acquired(owner),
            Self::Completed(response) => Claim::Completed(response),
            Self::InFlight { lease_left } => Claim::InFlight { lease_left },
            Self::Abandoned { attempt, age } => Claim::Abandoned { attempt, age },
            Self::Mismatch => Claim::Mismatch,
        }
    }
}

/// One claim to renew.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// The owner of the claim.
    pub owner: Owner,
    /// The new lease, counted from now by the store's clock.
    pub lease: Duration,
    /// How long the record outlives that lease if it is not completed.
    pub retention: Duration,
}

impl Renewal {
    /// Renews the lease of this owner.
    #[must_use]
    pub const fn new(owner: Owner, lease: Duration, retention: Duration) -> Self {
        Self {
            owner,
            lease,
            retention,
        }
    }
}

/// The result of a [`Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// The lease was renewed: it ends its full length from now.
    Renewed,
    /// The token no longer holds the claim, or the record is completed or gone. Nothing was
    /// written.
    Lost,
}

/// The result of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// The response is stored.
    Stored,
    /// This token has already completed the record (the reply was lost); the response stored then stays.
    AlreadyCompleted,
    /// The token no longer holds the claim, or the record is gone. Nothing was written.
    Lost,
}

/// The result of saving the progress of a running claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The progress is stored, or longer progress already is: progress only grows.
    Saved,
    /// The stored progress ends before the offset. Nothing was written: save again from
    /// `stored_bytes` on.
    Behind {
        /// The number of bytes of progress in the store.
        stored_bytes: usize,
    },
    /// The token no longer holds the claim, or the record is completed or gone. Nothing
    /// was written.
    Lost,
}

/// The result of releasing or abandoning a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// The claim has ended: the key is free, or abandoned.
    Released,
    /// The token does not hold the claim, or the record is completed or gone. Nothing was
    /// written.
    Lost,
}

/// The records that [`Store::purge_expired`](super::Store::purge_expired) has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// The number of records.
    pub records: usize,
    /// The ones that were never completed or resolved.
    pub abandoned: Vec<PurgedClaim>,
}

/// An abandoned record that was purged at the end of its retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedClaim {
    /// The record key.
    pub key: RecordKey,
    /// The record's operation.
    pub operation: Arc<str>,
}

impl PurgedClaim {
    /// The claim of this record, for this operation.
    #[must_use]
    pub const fn new(key: RecordKey, operation: Arc<str>) -> Self {
        Self { key, operation }
    }
}
