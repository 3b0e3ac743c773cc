//! A record as it is written: what a claim and a completion send to the server. [`row`](super::row)
//! has the layout.

use std::time::Duration;

use bytes::BufMut;

use super::row::{HEAD, MOST_MILLIS, VERSION};
use crate::record::StoredResponse;
use crate::store::ClaimRequest;

/// So many bytes are not put together in Lua, which hashes each string that it makes. To have them
/// written in two steps costs the server's log some 200 bytes instead.
const LONG: usize = 1024;

/// How much room for the names there is before a long response: the script that stores the response
/// knows the names, and its caller does not.
const ROOM: usize = 64;

/// A longer operation is cut off: it is there to be read by people.
const LONGEST_OPERATION: usize = 32 * 1024;

/// A label is no longer than this.
const LONGEST_LABEL: usize = 64;

/// The record of a first claim, and how long it lives, in milliseconds.
pub(super) fn claimed(request: &ClaimRequest<'_>) -> (Vec<u8>, u64) {
    let lease = millis(request.lease);
    let life = life(request.lease, request.retention);
    let operation = beginning(request.operation, LONGEST_OPERATION);
    let label = beginning(request.label.unwrap_or_default(), LONGEST_LABEL);
    let names = 1 + label.len() + operation.len();
    let length = u16::try_from(names).unwrap_or(u16::MAX);
    let mut record = Vec::with_capacity(HEAD + names + request.progress.len());
    record.put_u8(VERSION);
    record.put_slice(request.fingerprint.as_bytes());
    record.put_slice(request.owner.token.as_bytes());
    record.put_u32(1);
    record.put_f64(life as f64);
    record.put_f64(lease as f64);
    record.put_u8(b'r');
    record.put_u16(length);
    record.put_u16(length.saturating_add(HEAD as u16));
    record.put_u8(u8::try_from(label.len()).unwrap_or(u8::MAX));
    record.put_slice(label.as_bytes());
    record.put_slice(operation.as_bytes());
    record.put_slice(request.progress);
    (record, life)
}

fn beginning(name: &str, longest: usize) -> &str {
    let end = name.floor_char_boundary(longest);
    name.get(..end).unwrap_or_default()
}

/// How many milliseconds a record lives that was claimed or renewed now.
pub(super) fn life(lease: Duration, retention: Duration) -> u64 {
    // No life at all is one that the server does not take.
    (millis(lease) + millis(retention)).max(1)
}

/// The response as the script takes it: if it is long, after room for the head and the names.
pub(super) fn completed(response: &StoredResponse) -> Vec<u8> {
    let response = response.encode();
    if response.len() < LONG {
        return response;
    }
    let mut record = Vec::with_capacity(HEAD + ROOM + response.len());
    record.resize(HEAD + ROOM, 0);
    record.extend_from_slice(&response);
    record
}

/// Whole milliseconds, a part of one counted as one; not so many that a sum of a few would be more than
/// a double holds exactly.
pub(super) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).map_or(MOST_MILLIS / 8, |millis| millis.min(MOST_MILLIS / 8))
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
            (Duration::MAX, 1_125_899_906_842_624),
        ] {
            assert_eq!(millis(duration), expected);
        }
    }
}
