//! A record as the server holds it: one string, a head of fixed length and what comes after it.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | the version of this layout, 1 |
//! | 32 | the fingerprint |
//! | 16 | the token |
//! | 4 | the attempt, big-endian |
//! | 8 | from the first claim to the expiry, in milliseconds, as a big-endian double |
//! | 8 | from the first claim to the end of the lease, likewise |
//! | 1 | the state: `r` running, `w` running and waited for, `c` completed |
//! | rest | the progress, or the response once it is completed |
//!
//! No time of day is in it. The server says how long the key lives yet, which makes the age and what is
//! left of the lease: by one clock, the server's, and without having to be asked for it first. So a
//! claim needs no script, and all that is to be told of a record is told by the record itself.
//!
//! (Doubles, because Lua has no other number, and packs no integer of 64 bits on a server of 32.)

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};

use crate::fingerprint::Fingerprint;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::{Claim, ClaimRequest};

const VERSION: u8 = 1;
/// How long a record is before its progress or response.
pub(super) const HEAD: usize = 70;
const NUMBERS: usize = 20;

/// So many bytes are not put together in Lua, which hashes each string that it makes. To have them
/// written in two steps costs the server's log some 200 bytes instead.
const LONG: usize = 1024;

/// More milliseconds than that are not told apart by a double.
const MOST_MILLIS: u64 = 1 << 53;

/// Why the bytes of a record could not be read.
pub(super) type Unreadable = Box<dyn Error + Send + Sync>;

/// The record of a first claim, and how long it lives, in milliseconds.
pub(super) fn claimed(request: &ClaimRequest) -> ([u8; HEAD], u64) {
    let lease = millis(request.lease);
    // No life at all is one that the server does not take.
    let life = millis(request.ttl).max(lease).max(1);
    let mut record = [0; HEAD];
    let mut rest = &mut record[..];
    rest.put_u8(VERSION);
    rest.put_slice(request.fingerprint.as_bytes());
    rest.put_slice(request.owner.token.as_bytes());
    rest.put_u32(1);
    rest.put_f64(life as f64);
    rest.put_f64(lease as f64);
    rest.put_u8(b'r');
    (record, life)
}

/// The response as the script takes it: if it is long, after room for the head.
pub(super) fn completed(response: &StoredResponse) -> Vec<u8> {
    let response = response.encode();
    if response.len() < LONG {
        return response;
    }
    let mut record = Vec::with_capacity(HEAD + response.len());
    record.resize(HEAD, 0);
    record.extend_from_slice(&response);
    record
}

/// Whole milliseconds, a part of one counted as one; not so many that a sum of two would be more than
/// a double holds exactly.
pub(super) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).map_or(MOST_MILLIS / 2, |millis| millis.min(MOST_MILLIS / 2))
}

/// A record that was read.
pub(super) struct Stored<'a> {
    fingerprint: &'a [u8; 32],
    token: &'a [u8; 16],
    /// The attempt, the life and the lease.
    numbers: &'a [u8; NUMBERS],
    is_completed: bool,
    rest: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let ([VERSION], bytes) = part(bytes)? else {
            return Err("a value of an unknown version".into());
        };
        let (fingerprint, bytes) = part(bytes)?;
        let (token, bytes) = part(bytes)?;
        let (numbers, bytes) = part(bytes)?;
        let ([state], rest) = part(bytes)?;
        let is_completed = match state {
            b'c' => true,
            b'r' | b'w' => false,
            _ => return Err("a record of an unknown state".into()),
        };
        Ok(Self {
            fingerprint,
            token,
            numbers,
            is_completed,
            rest,
        })
    }

    /// What a claim learns, as far as it can be told without the time; `None` is for [`claim`](Self::claim).
    pub(super) fn replay(&self, request: &ClaimRequest) -> Result<Option<Claim>, Unreadable> {
        if self.fingerprint != request.fingerprint.as_bytes() {
            return Ok(Some(Claim::Mismatch));
        }
        if !self.is_completed {
            return Ok(None);
        }
        self.response()
            .map(|response| Some(Claim::Completed(response)))
    }

    /// What a claim learns of a record that lives for so many milliseconds yet.
    pub(super) fn claim(&self, request: &ClaimRequest, left: i64) -> Result<Claim, Unreadable> {
        if let Some(claim) = self.replay(request)? {
            return Ok(claim);
        }
        let Numbers {
            attempt,
            age,
            lease_left,
            ..
        } = self.numbers(left)?;
        Ok(if self.token == request.owner.token.as_bytes() {
            Claim::Acquired { attempt, age }
        } else if lease_left.is_zero() {
            Claim::Abandoned { attempt, age }
        } else {
            Claim::InFlight { lease_left }
        })
    }

    /// The record, which lives for so many milliseconds yet.
    pub(super) fn record(&self, left: i64) -> Result<Record, Unreadable> {
        let numbers = self.numbers(left)?;
        let (state, progress) = if self.is_completed {
            (RecordState::Completed(self.response()?), Bytes::new())
        } else {
            let state = match numbers.lease_left {
                Duration::ZERO => RecordState::Abandoned,
                lease_left => RecordState::Running { lease_left },
            };
            (state, Bytes::copy_from_slice(self.rest))
        };
        Ok(Record {
            fingerprint: Fingerprint::from_bytes(*self.fingerprint),
            attempt: numbers.attempt,
            age: numbers.age,
            expires_in: numbers.expires_in,
            state,
            progress,
        })
    }

    fn response(&self) -> Result<Arc<StoredResponse>, Unreadable> {
        Ok(Arc::new(StoredResponse::decode(self.rest)?))
    }

    fn numbers(&self, left: i64) -> Result<Numbers, Unreadable> {
        let left = u64::try_from(left).map_err(|_| "a record that does not expire")?;
        let (attempt, times) = part(self.numbers)?;
        let (life, times) = part(times)?;
        let (lease, _) = part(times)?;
        let attempt = u32::from_be_bytes(*attempt);
        let (life, lease) = (whole(*life)?, whole(*lease)?);
        if attempt == 0 || lease > life {
            return Err("a record whose numbers are damaged".into());
        }
        // Nothing, if somebody has had the key live longer.
        let age = life.saturating_sub(left);
        Ok(Numbers {
            attempt,
            age: Duration::from_millis(age),
            lease_left: Duration::from_millis(lease.saturating_sub(age)),
            expires_in: Duration::from_millis(left),
        })
    }
}

/// What the head's numbers say at a moment.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_millisecond_is_one_and_a_length_has_a_limit() {
        for (duration, expected) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(300), 300),
            (Duration::from_micros(300_001), 301),
            (Duration::MAX, 4_503_599_627_370_496),
        ] {
            assert_eq!(millis(duration), expected);
        }
    }
}
