//! Keys that are so old that their records may be gone.
//!
//! Age alone does not say so: the TTL of a response is counted from when it was given, which can be long after its key was
//! made. So such a key is looked up first, and refused only where there is no record.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Engine, Fingerprints, Intent};
use crate::policy::{KeyAge, Policy};
use crate::record::{RecordState, StoredResponse};
use crate::store::StoreError;

/// What a key that is too old to run has come to.
pub(crate) enum OldKey {
    Completed(Arc<StoredResponse>),
    /// Its record is not completed, or is another request's: it is decided about as any other.
    Undecided,
    /// There is no record.
    Expired,
}

impl Intent {
    /// Whether its key may have outlived its record.
    pub(crate) fn is_too_old(&self, policy: &Policy) -> bool {
        policy.key_age == KeyAge::Ttl
            && !policy.key_from_arguments
            && self
                .key
                .may_have_outlived_its_record(self.ttl, SystemTime::now())
    }
}

/// Looks at the records of a key that is too old to run.
///
/// Not from the cache, and without a claim: a record that ends between a look and a claim would make it run.
///
/// # Errors
///
/// [`StoreError`]; it must not run, whatever `OnStoreFailure` says.
pub(crate) async fn look_up_old(
    engine: &Engine,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
) -> Result<OldKey, StoreError> {
    for key in intent.keys.iter() {
        let Some(record) = engine.read(key).await? else {
            continue;
        };
        return Ok(match record.state {
            RecordState::Completed(stored) if fingerprints.include(record.fingerprint) => {
                OldKey::Completed(stored)
            }
            _ => OldKey::Undecided,
        });
    }
    Ok(OldKey::Expired)
}
