//! The lock of a key, which goes with the transaction that has taken it.

use sha2::{Digest, Sha256};

use crate::key::RecordKey;

/// One lock for each key of each table. Advisory locks are numbers of 64 bits, so that two keys
/// could share one; the later of the two would be told that it is in flight.
pub(in crate::store::postgres) fn lock(table: &str, key: &RecordKey) -> i64 {
    let table = Sha256::digest(table);
    let bytes = key.as_bytes().iter().zip(table).take(8);
    bytes.fold(0, |lock, (key, table)| lock << 8 | i64::from(*key ^ table))
}
