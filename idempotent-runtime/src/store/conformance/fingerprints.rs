//! Fingerprints: another request under the same key is told so, whatever the record's state.

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, other_request, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::fingerprint::Fingerprint;
use crate::store::{Acquired, Claim};

cases! {
    FingerprintFirst:
        another_request_while_running_is_a_mismatch,
        another_request_when_abandoned_is_a_mismatch,
        another_request_when_completed_is_a_mismatch,
        fingerprints_one_bit_apart_are_apart;
}

/// Asks as any caller might, and nothing may come of it.
async fn mismatches(lab: &Lab<'_>, claimed: &CaseRequest) -> Verdict {
    let key = claimed.owner.key;
    let before = lab.record(&key).await?;
    let same_token = other_request(claimed);
    let longer = CaseRequest {
        lease: claimed.lease * 2,
        retention: claimed.retention * 2,
        ..same_token
    };
    let another_token = other_request(&rival(claimed)?);
    let taking_over = other_request(&lab.heir(claimed, 1)?);
    for request in [another_token, taking_over, same_token, longer] {
        let claim = lab.store.claim(&request).await?;
        must_be!("another request for the key", claim, Claim::Mismatch);
        unchanged(
            "another request for the key",
            &before,
            lab.store.get(&key).await?,
        )?;
    }
    Ok(())
}

async fn another_request_while_running_is_a_mismatch(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    mismatches(lab, &request).await?;
    lab.completed(&request.owner).await?;
    Ok(())
}

async fn another_request_when_abandoned_is_a_mismatch(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    mismatches(lab, &request).await?;
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    must_be!(
        "the same request after that",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    Ok(())
}

async fn another_request_when_completed_is_a_mismatch(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let response = lab.completed(&request.owner).await?;
    mismatches(lab, &request).await?;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!("the same request after that", claim, Claim::Completed(got) if got == response);
    Ok(())
}

async fn fingerprints_one_bit_apart_are_apart(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    for (byte, bit) in (0..32).map(|byte| (byte, byte % 8)) {
        let mut bytes = *request.fingerprint.as_bytes();
        bytes
            .iter_mut()
            .skip(byte)
            .take(1)
            .for_each(|byte| *byte ^= 1 << bit);
        let fingerprint = Fingerprint::from_bytes(bytes);
        let claim = lab
            .store
            .claim(&CaseRequest {
                fingerprint,
                ..request
            })
            .await?;
        let what = format!("a fingerprint that differs in bit {bit} of byte {byte}");
        must_be!(&what, claim, Claim::Mismatch);
    }
    Ok(())
}
