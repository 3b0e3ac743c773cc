//! Keys, tokens, and what is made of many measurements.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use idempotent_runtime::store::ClaimRequest;
use idempotent_runtime::{Fingerprint, Owner, RecordKey, StoredResponse, Token};

/// How long a claim is held, an abandoned record stays, and a response lives, in all measurements.
pub(crate) const LEASE: Duration = Duration::from_secs(600);
pub(crate) const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
pub(crate) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The claim of the record with this number; `claimer` tells claims of the same record apart.
pub(crate) fn claim(number: u64, claimer: u64) -> ClaimRequest<'static> {
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(bytes(number)),
            token: Token::from_bytes(bytes(number ^ claimer.rotate_left(32))),
        },
        fingerprint: Fingerprint::from_bytes(bytes(!number)),
        operation: "POST /payments",
        label: None,
        lease: LEASE,
        retention: RETENTION,
        progress: &[],
        take_over: None,
    }
}

/// An answer with 200 bytes of body.
pub(crate) fn response() -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    Arc::new(StoredResponse::new(
        StatusCode::CREATED,
        headers,
        vec![b'n'; 200],
    ))
}

/// As uniform as digests are: `SplitMix64`, seeded with the number.
fn bytes<const N: usize>(number: u64) -> [u8; N] {
    let mut state = number.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let word = (mixed ^ (mixed >> 31)).to_le_bytes();
        chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
    bytes
}

/// Where a fresh series of record numbers begins, so that no two processes share records.
pub(crate) fn series() -> Result<u64, std::io::Error> {
    let random = *Token::random()?.as_bytes();
    let [a, b, c, d, ..] = random;
    Ok(u64::from(u32::from_le_bytes([a, b, c, d]) | 1) << 32)
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.len() / 2, values.len().checked_sub(1)? / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

/// How long single operations took, in microseconds.
#[derive(Default)]
pub(crate) struct Latencies(Vec<f32>);

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f32() * 1e6);
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        let sum: f64 = self.0.iter().copied().map(f64::from).sum();
        (!self.0.is_empty()).then(|| sum / self.0.len() as f64)
    }

    /// From 0 (the shortest) to 1 (the longest).
    pub(crate) fn quantile(&mut self, part: f64) -> Option<f64> {
        self.0.sort_by(f32::total_cmp);
        let last = self.0.len().checked_sub(1)?;
        self.0
            .get((last as f64 * part).round() as usize)
            .copied()
            .map(f64::from)
    }
}
