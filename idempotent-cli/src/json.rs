//! Records as JSON: durations in seconds, and nothing that the text does not show either.

use std::time::Duration;

use idempotent_runtime::store::ListedRecord;
use serde_json::{Value, json};

use crate::output::name_of;

pub(crate) fn seconds(length: Duration) -> Value {
    // To a millisecond: more is noise.
    json!((length.as_secs_f64() * 1000.0).round() / 1000.0)
}

pub(crate) fn listed(record: &ListedRecord) -> Value {
    json!({
        "record": record.key.to_hex(),
        "state": name_of(record.status),
        "attempt": record.attempt,
        "seen": record.seen().to_string(),
        "operation": *record.operation,
        "label": record.label.as_deref(),
        "age_secs": seconds(record.age),
        "lease_left_secs": seconds(record.lease_left),
        "expires_in_secs": seconds(record.expires_in),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_three_digits() {
        assert_eq!(seconds(Duration::from_micros(1_234_567)), json!(1.235));
        assert_eq!(seconds(Duration::ZERO), json!(0.0));
    }
}
