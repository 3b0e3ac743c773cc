//! A record as the server holds it: one string, a head of fixed length and what comes after it.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | the version of this layout, 3 |
//! | 32 | the fingerprint |
//! | 16 | the token; zeros in a record that its owner has abandoned |
//! | 4 | the attempt, big-endian |
//! | 8 | from the first claim to the expiry, in milliseconds, as a big-endian double |
//! | 8 | from the first claim to the end of the lease, likewise |
//! | 1 | the state: `r` running, `w` running and waited for, `a` abandoned by its owner, `c` completed |
//! | 2 | how long the names are, big-endian |
//! | 2 | where the rest begins, counted from the first byte, big-endian |
//! | | the names: a byte that says how long the label is, the label, and the operation |
//! | | zeros up to where the rest begins |
//! | rest | the progress, or the response once it is completed |
//!
//! No time of day is in it. The server says how long the key lives yet, which makes the age and what is
//! left of the lease: by one clock, the server's, and without having to be asked for it first. So a
//! claim needs no script, and all that is to be told of a record is told by the record itself.
//!
//! (Doubles, because Lua has no other number, and packs no integer of 64 bits on a server of 32.)

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{DecodeError, Record, Token};
use crate::store::row::{Details, Row, status};
use crate::store::{Claim, ClaimRequest, ListedRecord};

pub(super) const VERSION: u8 = 3;
/// No foreign value is likely to begin with a byte below this; another release's record does.
const VERSIONS: u8 = 32;
/// How long a record is before its names.
pub(super) const HEAD: usize = 74;
const NUMBERS: usize = 20;

/// More milliseconds than that are not told apart by a double.
pub(super) const MOST_MILLIS: u64 = 1 << 53;

/// Why the bytes of a record could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// They are of a release that this one does not know.
    OtherVersion(u8),
    Damaged(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherVersion(version) => write!(
                f,
                "the record has layout {version}, which this release does not know"
            ),
            Self::Damaged(cause) => cause.fmt(f),
        }
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::OtherVersion(_) => None,
            Self::Damaged(cause) => cause.source(),
        }
    }
}

impl From<&'static str> for Unreadable {
    fn from(what: &'static str) -> Self {
        Self::Damaged(what.into())
    }
}

impl From<DecodeError> for Unreadable {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error.into())
    }
}

/// A record that was read.
pub(super) struct Stored<'a> {
    fingerprint: &'a [u8; 32],
    token: &'a [u8; 16],
    /// The attempt, the life and the lease.
    numbers: &'a [u8; NUMBERS],
    state: StateByte,
    /// Label and operation.
    names: &'a [u8],
    rest: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StateByte {
    Running,
    /// By its owner: the token belongs to no attempt.
    Abandoned,
    Completed,
}

impl<'a> Stored<'a> {
    pub(super) fn read(record: &'a [u8]) -> Result<Self, Unreadable> {
        let (stored, start, bytes) = Self::read_head(record)?;
        let until_rest = start.checked_sub(HEAD + stored.names.len());
        let rest = until_rest.and_then(|zeros| bytes.get(zeros..));
        let rest = rest.ok_or("a record whose names are cut off")?;
        Ok(Self { rest, ..stored })
    }

    /// What `peek.lua` has read: a record without its rest; and where that begins.
    pub(super) fn peeked(record: &'a [u8]) -> Result<(Self, usize), Unreadable> {
        Self::read_head(record).map(|(stored, start, _)| (stored, start))
    }

    /// Without a rest; and where that begins, and the bytes after the names.
    fn read_head(record: &'a [u8]) -> Result<(Self, usize, &'a [u8]), Unreadable> {
        let bytes = match record.split_first() {
            Some((&VERSION, bytes)) => bytes,
            Some((&version, _)) if (1..VERSIONS).contains(&version) => {
                return Err(Unreadable::OtherVersion(version));
            }
            _ => return Err("a value that is no record".into()),
        };
        let (fingerprint, bytes) = part(bytes)?;
        let (token, bytes) = part(bytes)?;
        let (numbers, bytes) = part(bytes)?;
        let ([state], bytes) = part(bytes)?;
        let (length, bytes) = part(bytes)?;
        let (start, bytes) = part(bytes)?;
        let state = match state {
            b'c' => StateByte::Completed,
            b'a' => StateByte::Abandoned,
            b'r' | b'w' => StateByte::Running,
            _ => return Err("a record of an unknown state".into()),
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let names = bytes.split_at_checked(length);
        let (names, bytes) = names.ok_or("a record whose names are cut off")?;
        let stored = Self {
            fingerprint,
            token,
            numbers,
            state,
            names,
            rest: &[],
        };
        Ok((stored, usize::from(u16::from_be_bytes(*start)), bytes))
    }

    /// The label, if there is one, and the operation.
    fn names(&self) -> Result<(Option<&'a str>, &'a str), Unreadable> {
        let (label, operation) = self
            .names
            .split_first()
            .and_then(|(length, names)| names.split_at_checked(usize::from(*length)))
            .ok_or("a record whose names are cut off")?;
        let text = |bytes| str::from_utf8(bytes).map_err(|error| Unreadable::Damaged(error.into()));
        let label = Some(text(label)?).filter(|label| !label.is_empty());
        Ok((label, text(operation)?))
    }

    /// The record as it is listed, which lives for so many milliseconds yet, and whose rest has so many bytes.
    pub(super) fn listed(
        &self,
        key: RecordKey,
        left: i64,
        size_bytes: u64,
    ) -> Result<ListedRecord, Unreadable> {
        let numbers = self.numbers(left)?;
        let is_completed = self.state == StateByte::Completed;
        let (status, lease_left) = status(is_completed, numbers.lease_left);
        let (label, operation) = self.names()?;
        Ok(ListedRecord {
            attempt: numbers.attempt,
            label: label.map(Arc::from),
            age: numbers.age,
            lease_left,
            expires_in: numbers.expires_in,
            size_bytes,
            ..ListedRecord::new(key, status, operation.into())
        })
    }

    /// What a claim learns, as far as it can be told without the time; `None` is for [`claim`](Self::claim).
    pub(super) fn replay(&self, request: &ClaimRequest<'_>) -> Result<Option<Claim>, Unreadable> {
        let row = self.row(Numbers::default());
        Ok(row.replay(&request.fingerprint, request.owner.token)?)
    }

    /// What a claim learns of a record that lives for so many milliseconds yet.
    pub(super) fn claim(&self, request: &ClaimRequest<'_>, left: i64) -> Result<Claim, Unreadable> {
        // Numbers that are damaged do not matter to it.
        if let Some(claim) = self.replay(request)? {
            return Ok(claim);
        }
        let row = self.row(self.numbers(left)?);
        Ok(row.claim(&request.fingerprint, request.owner.token)?)
    }

    /// The record, which lives for so many milliseconds yet.
    pub(super) fn record(&self, left: i64) -> Result<Record, Unreadable> {
        let row = self.row(self.numbers(left)?);
        let progress = match self.state {
            StateByte::Completed => Bytes::new(),
            StateByte::Running | StateByte::Abandoned => Bytes::copy_from_slice(self.rest),
        };
        let (label, operation) = self.names()?;
        Ok(row.record(Details {
            operation: operation.into(),
            label: label.map(Arc::from),
            progress,
        })?)
    }

    fn row(&self, numbers: Numbers) -> Row<&'a [u8]> {
        let is_abandoned = self.state == StateByte::Abandoned;
        Row {
            fingerprint: Fingerprint::from_bytes(*self.fingerprint),
            token: (!is_abandoned).then(|| Token::from_bytes(*self.token)),
            attempt: numbers.attempt,
            age: numbers.age,
            lease_left: numbers.lease_left,
            expires_in: numbers.expires_in,
            response: (self.state == StateByte::Completed).then_some(self.rest),
        }
    }

    fn numbers(&self, left: i64) -> Result<Numbers, Unreadable> {
        let Ok(left) = u64::try_from(left) else {
            return Err("a record that does not expire".into());
        };
        let (attempt, times) = part(self.numbers)?;
        let (life, times) = part(times)?;
        let (lease, _) = part(times)?;
        let attempt = u32::from_be_bytes(*attempt);
        let (life, lease) = (whole(*life)?, whole(*lease)?);
        if attempt == 0 || lease > life {
            return Err("a record whose numbers are damaged".into());
        }
        // Zero, if another client has extended the key's life.
        let age = life.saturating_sub(left);
        let lease_left = match self.state {
            StateByte::Abandoned => 0,
            StateByte::Running | StateByte::Completed => lease.saturating_sub(age),
        };
        Ok(Numbers {
            attempt,
            age: Duration::from_millis(age),
            lease_left: Duration::from_millis(lease_left),
            expires_in: Duration::from_millis(left),
        })
    }
}

/// What the head's numbers say at a moment.
#[derive(Clone, Copy, Default)]
struct Numbers {
    attempt: u32,
    age: Duration,
    lease_left: Duration,
    expires_in: Duration,
}

fn part<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Unreadable> {
    let parts = bytes.split_first_chunk();
    parts.ok_or_else(|| "a value that is cut off, or no record".into())
}

fn whole(millis: [u8; 8]) -> Result<u64, Unreadable> {
    let millis = f64::from_be_bytes(millis);
    if !(0.0..=MOST_MILLIS as f64).contains(&millis) {
        return Err("a record whose numbers are damaged".into());
    }
    Ok(millis as u64)
}
