//! Listing records in the order of their keys.

use super::moment::Moment;
use super::table::Table;
use crate::key::RecordKey;
use crate::store::listing::MOST_LISTED;
use crate::store::{ListFilter, Listing};

/// About how many records one page looks into. The keys of all are looked at, which are in a row: a
/// million takes some milliseconds.
const LOOK: u64 = 64 * 1024;

/// One page: of a range of keys that is as wide as about [`LOOK`] records, because keys are digests.
///
/// A shard is locked for reading while its keys are looked at, one shard at a time.
pub(super) fn page(
    table: &Table,
    now: Moment,
    filter: &ListFilter,
    after: Option<RecordKey>,
    limit: usize,
) -> Listing {
    let limit = limit.clamp(1, MOST_LISTED);
    let begin = after.map_or(0, |key| leading(&key));
    let share = (table.len() as u64 / LOOK).saturating_add(1);
    let end = begin.saturating_add(u64::MAX / share);
    let is_in_range = |key: &RecordKey| {
        after.is_none_or(|after| *key > after) && (begin..=end).contains(&leading(key))
    };
    let listed = table.read_all(|key, entry| match is_in_range(key) {
        true => entry.listed(*key, now),
        false => None,
    });
    let mut records: Vec<_> = listed.filter_map(|record| filter.listed(record)).collect();
    records.sort_unstable_by_key(|record| record.key);
    let is_cut = records.len() > limit;
    records.truncate(limit);
    let next = match records.last() {
        Some(last) if is_cut => Some(last.key.into()),
        _ if end < u64::MAX => Some(last_of(end).into()),
        _ => None,
    };
    Listing::new(records, next)
}

/// The first eight bytes of a key, by which the range is chosen.
fn leading(key: &RecordKey) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The last key that begins with these bytes.
fn last_of(leading: u64) -> RecordKey {
    let mut key = [u8::MAX; 32];
    let [first, ..] = key.as_chunks_mut::<8>().0 else {
        return RecordKey::from_bytes(key);
    };
    *first = leading.to_be_bytes();
    RecordKey::from_bytes(key)
}
