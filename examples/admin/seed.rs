//! Records to look at: a store with a month behind it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ClaimRequest, Store};
use idempotent_runtime::{
    Clock, Fingerprint, Owner, RecordKey, StoredResponse, SystemClock, Token,
};

const DAY: Duration = Duration::from_hours(24);

/// The age of the oldest record, by a clock that is told so.
const MONTH: Duration = Duration::from_hours(24 * 30);

const COMPLETED: u32 = 400;
const IN_FLIGHT: u32 = 3;

const OPERATIONS: [&str; 4] = [
    "POST /api/payments",
    "POST /api/orders/{}/refunds",
    "POST /api/orders",
    "mail.receipt",
];

/// What becomes of a record.
#[derive(Clone, Copy)]
enum Fate {
    Completed,
    InFlight,
    Abandoned,
}

/// The time, plus what has been skipped.
#[derive(Debug, Default)]
struct SkippingClock {
    real: SystemClock,
    skipped_ms: AtomicU64,
}

impl SkippingClock {
    fn skip_to(&self, time: Duration) {
        let now = self.real.now();
        let millis = time.saturating_sub(now).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.skipped_ms.fetch_max(millis, Ordering::AcqRel);
    }
}

impl Clock for SkippingClock {
    fn now(&self) -> Duration {
        self.real.now() + Duration::from_millis(self.skipped_ms.load(Ordering::Acquire))
    }
}

/// A store with so many abandoned records, and some others.
pub(crate) async fn store(abandoned: u32) -> Result<MemoryStore, Box<dyn Error>> {
    let clock = Arc::new(SkippingClock::default());
    let store = MemoryStore::builder()
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .build();
    let mut records = Vec::new();
    for (fate, count) in [(Fate::Completed, COMPLETED), (Fate::Abandoned, abandoned)] {
        records.extend((0..count).map(|number| (age(number, count), fate, number)));
    }
    records.extend((0..IN_FLIGHT).map(|number| (Duration::from_secs(2), Fate::InFlight, number)));
    // The oldest first.
    records.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
    for (age, fate, number) in records {
        clock.skip_to(MONTH - age);
        write(&store, fate, number).await?;
    }
    clock.skip_to(MONTH);
    Ok(store)
}

/// From five seconds to a month, spread evenly over the orders of magnitude.
fn age(number: u32, count: u32) -> Duration {
    let share = (f64::from(number) + 0.5) / f64::from(count);
    Duration::from_secs(5).mul_f64((MONTH.as_secs_f64() / 5.0).powf(share))
}

async fn write(store: &MemoryStore, fate: Fate, number: u32) -> Result<(), Box<dyn Error>> {
    let operation = OPERATIONS[number.trailing_zeros().min(3) as usize];
    let owner = Owner {
        key: key()?,
        token: Token::random()?,
    };
    let lease = match fate {
        Fate::InFlight => Duration::from_hours(1),
        Fate::Completed | Fate::Abandoned => Duration::from_secs(1),
    };
    let fingerprint = Fingerprint::from_bytes([0; 32]);
    let label = format!("order {}", 1000 + number);
    let mut request = ClaimRequest::new(owner, fingerprint, operation, lease, MONTH + DAY);
    request.label = (number % 3 != 2).then_some(&label);
    store.claim(&request).await?;
    if let Fate::Completed = fate {
        let response = Arc::new(response(operation, number)?);
        store.complete(&owner, &response, MONTH + DAY).await?;
    }
    Ok(())
}

/// A record key is a digest.
fn key() -> Result<RecordKey, Box<dyn Error>> {
    let [one, other] = [Token::random()?, Token::random()?];
    let mut key = [0; 32];
    key[..16].copy_from_slice(one.as_bytes());
    key[16..].copy_from_slice(other.as_bytes());
    Ok(RecordKey::from_bytes(key))
}

fn response(operation: &str, number: u32) -> Result<StoredResponse, Box<dyn Error>> {
    let body = serde_json::json!({ "id": number, "amount": 1000 });
    if !operation.contains(' ') {
        return Ok(StoredResponse::of_value(&body)?);
    }
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    let body = serde_json::to_vec(&body)?;
    Ok(StoredResponse::new(StatusCode::CREATED, headers, body))
}
