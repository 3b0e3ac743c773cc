//! What a transaction's request is asked for by, in front of a database that holds one record.

use std::convert::Infallible;

use async_trait::async_trait;

use super::*;
use crate::engine::Described;
use crate::fingerprint::Fingerprint;
use crate::observer::Observers;
use crate::record::StoredResponse;
use crate::store::backend::Backend;
use crate::store::memory::MemoryStore;

const SHA256: Fingerprint = Fingerprint::from_bytes([1; 32]);
const BLAKE3: Fingerprint = Fingerprint::from_bytes([2; 32]);
const KEY: RecordKey = RecordKey::from_bytes([7; 32]);

/// A record of a request with this fingerprint, in this state.
struct Row(Fingerprint, Claim<Infallible>);

#[async_trait]
impl Begin<()> for Row {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        _: Duration,
    ) -> Result<Claim<Box<dyn Session<()>>>, StoreError> {
        let is_its = request.is_some_and(|request| request.fingerprint == self.0);
        Ok(if is_its {
            self.1.clone().map(|never| match never {})
        } else {
            Claim::Mismatch
        })
    }
}

/// A request that is `SHA256` here, and `other` by another digest.
async fn entered(
    row: Row,
    other: Option<Fingerprint>,
) -> Result<Claim<InTransaction<()>>, Refusal> {
    let settings = super::super::EngineSettings {
        purge_interval: Duration::ZERO,
        ..Default::default()
    };
    let engine = Engine::new(
        Backend::new(Arc::new(MemoryStore::new()), None),
        settings,
        None,
        Observers::default(),
    );
    let intent = Intent {
        keys: KeySet::new(KEY, None),
        fingerprint: SHA256,
        operation: Described::new("test", None),
        ttl: Duration::from_secs(60),
        key: crate::key::Key::from_serialized(b"1".to_vec()),
        scope: None,
    };
    let (policy, mut make) = (Policy::new(), || other);
    let fingerprints = Fingerprints::new(SHA256, &mut make);
    let entered = enter_transaction(&engine, &row, &intent, fingerprints, &policy);
    entered.await
}

fn completed() -> Claim<Infallible> {
    Claim::Completed(Arc::new(StoredResponse::of_parts(
        200,
        Default::default(),
        None,
    )))
}

#[tokio::test]
async fn record_by_either_digest_is_replayed() {
    for fingerprint in [SHA256, BLAKE3] {
        let claim = entered(Row(fingerprint, completed()), Some(BLAKE3))
            .await
            .unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    }
}

#[tokio::test]
async fn what_runs_by_either_digest_is_in_flight() {
    for fingerprint in [SHA256, BLAKE3] {
        let row = Row(
            fingerprint,
            Claim::InFlight {
                lease_left: ASK_AGAIN,
            },
        );
        let claim = entered(row, Some(BLAKE3)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
    }
}

#[tokio::test]
async fn record_by_neither_digest_is_another_requests() {
    let stranger = Fingerprint::from_bytes([3; 32]);
    for (fingerprint, other) in [(stranger, Some(BLAKE3)), (BLAKE3, None)] {
        let claim = entered(Row(fingerprint, completed()), other).await.unwrap();
        assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
    }
}
