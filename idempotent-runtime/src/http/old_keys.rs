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

/// Whether its key may have outlived its record.
pub(super) fn is_too_old(intent: &Intent, policy: &Policy) -> bool {
    policy.key_age == KeyAge::Ttl
        && !policy.key_from_arguments
        && intent
            .key
            .may_have_outlived_its_record(intent.ttl, SystemTime::now())
}

/// The answer to a request whose key is too old to run. `None` if it may be decided about as any other: its key has a record
/// whose request is not completed, or is another one.
///
/// Not from the cache, and without a claim: a record that ends between a look and a claim would make it run.
pub(super) async fn stored_or_expired(
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
