//! The claims, renewals and responses of the cases.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::verdict::Failure;
use crate::fingerprint::Fingerprint;
use crate::record::{Owner, StoredResponse, Token};
use crate::store::{ClaimRequest, Renewal};

/// A claim as the cases make it.
pub(super) type CaseRequest = ClaimRequest<'static>;

/// The operation of every claim.
pub(super) const OPERATION: &str = "kit.größe/{id}";

/// How long a record of this claim lives while it is not completed.
pub(super) fn life(of: &CaseRequest) -> Duration {
    of.lease + of.retention
}

/// A renewal for as long as the claim was made for.
pub(super) fn renewal(of: &CaseRequest) -> Renewal {
    Renewal {
        owner: of.owner,
        lease: of.lease,
        retention: of.retention,
    }
}

/// The same claim by another owner: another token.
pub(super) fn rival(of: &CaseRequest) -> Result<CaseRequest, Failure> {
    Ok(CaseRequest {
        owner: stranger(&of.owner)?,
        take_over: None,
        ..*of
    })
}

/// The same claim for another request.
pub(super) fn other_request(of: &CaseRequest) -> CaseRequest {
    let [first, rest @ ..] = *of.fingerprint.as_bytes();
    let mut bytes = [!first; 32];
    bytes
        .iter_mut()
        .skip(1)
        .zip(rest)
        .for_each(|(to, from)| *to = from);
    CaseRequest {
        fingerprint: Fingerprint::from_bytes(bytes),
        ..*of
    }
}

/// Another token for the same key.
pub(super) fn stranger(to: &Owner) -> Result<Owner, Failure> {
    Ok(Owner {
        token: Token::random()?,
        ..*to
    })
}

/// A response that differs from others by its text.
pub(super) fn answer(text: &'static str) -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    Arc::new(StoredResponse::of_parts(
        201,
        headers,
        Some(Bytes::from_static(text.as_bytes())),
    ))
}
