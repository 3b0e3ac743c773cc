//! Keys that are so old that their records may be gone.
//!
//! Age alone does not say so: the TTL of a response is counted from when it was given, which can be long after its key was
//! made. So such a key is looked up first, and refused only where there is no record.

use std::time::SystemTime;

use axum::response::Response;

use super::answer;
use crate::engine::{Fingerprints, Intent, Refusal};
use crate::handle::Idempotency;
use crate::handle::problem::{Problem, ProblemCode};
use crate::policy::{KeyAge, Policy};
use crate::record::RecordState;

/// The answer to a request whose key is too old to run. `None` if it may be decided about as any other: its key is not too
/// old, or has a record whose request is not completed, or is another one.
pub(super) async fn answer_too_old(
    idempotency: &Idempotency,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
    policy: &Policy,
) -> Option<Response> {
    if policy.key_age == KeyAge::Any || policy.key_from_arguments || !is_too_old(intent) {
        return None;
    }
    // Boxed: few requests have to make room for it.
    Box::pin(stored_or_expired(idempotency, intent, fingerprints)).await
}

fn is_too_old(intent: &Intent) -> bool {
    let (key, ttl) = (&intent.key, intent.ttl);
    key.may_have_outlived_its_record(ttl, SystemTime::now())
}

/// Not from the cache, and without a claim: a record that ends between a look and a claim would make it run.
async fn stored_or_expired(
    idempotency: &Idempotency,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
) -> Option<Response> {
    for key in intent.keys.iter() {
        match idempotency.engine().read(key).await {
            Ok(None) => {}
            Ok(Some(record)) => {
                return match record.state {
                    RecordState::Completed(stored) if fingerprints.include(record.fingerprint) => {
                        Some(answer::replay(idempotency, stored))
                    }
                    _ => None,
                };
            }
            // It must not run, whatever `OnStoreFailure` says.
            Err(error) => return Some(answer::refuse(idempotency, &Refusal::Store(error))),
        }
    }
    let expired = Problem::new(ProblemCode::KeyExpired);
    Some(answer::problem(idempotency, &expired))
}
