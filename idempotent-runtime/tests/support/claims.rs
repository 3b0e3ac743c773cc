//! Claims, answers and errors, as the tests of the SQL stores make and read them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Store};
use idempotent_runtime::{Fingerprint, Owner, RecordKey, StoredResponse, Token};

/// How long to wait for what must come; long, because it is waited for in full only when it does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long an answer is replayed.
pub(crate) const TTL: Duration = Duration::from_secs(3600);

/// A claim of a random key that lasts.
pub(crate) fn request() -> ClaimRequest<'static> {
    let random = || *Token::random().unwrap().as_bytes();
    let digest = || [random(), random()].concat().try_into().unwrap();
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(digest()),
            token: Token::random().unwrap(),
        },
        fingerprint: Fingerprint::from_bytes(digest()),
        operation: "POST /payments",
        label: None,
        lease: Duration::from_secs(600),
        retention: Duration::from_secs(3600),
        progress: &[],
        take_over: None,
    }
}

/// The same claim by another caller.
pub(crate) fn rival<'a>(of: &ClaimRequest<'a>) -> ClaimRequest<'a> {
    let token = Token::random().unwrap();
    ClaimRequest {
        owner: Owner { token, ..of.owner },
        ..*of
    }
}

pub(crate) fn answer() -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = Bytes::from_static(br#"{"id":"pay_1","amount":4200}"#);
    let response = StoredResponse::new(StatusCode::CREATED, headers, body);
    Arc::new(response)
}

/// A new record of the store.
pub(crate) async fn claimed(store: &dyn Store) -> ClaimRequest<'static> {
    let request = request();
    let claim = store.claim(&request).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    request
}

/// An error and its causes, one after the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
