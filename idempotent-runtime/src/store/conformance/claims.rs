//! Claims: the first caller runs, and asking twice is asking once.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, OPERATION, answer, life, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion};

cases! {
    AtomicClaim:
        absent_key_is_acquired,
        absent_key_is_acquired_whatever_is_taken_over,
        claim_is_idempotent_per_token,
        claim_is_idempotent_per_token_after_its_lease,
        second_token_finds_it_in_flight;
    Immutable:
        completed_is_returned_to_every_token;
}

async fn absent_key_is_acquired(lab: &Lab<'_>) -> Verdict {
    let request = lab.request()?;
    let watch = lab.stopwatch();
    let claim = lab.store.claim(&request).await?;
    let most = watch.elapsed() + lab.tolerance();
    must_be!("claiming an absent key", claim, Claim::Acquired(Acquired { attempt: 1, age }) if age <= most);
    let record = lab.record(&request.owner.key).await?;
    must_be!("its attempt", record.attempt, 1);
    must_be!("its fingerprint", record.fingerprint, print if print == request.fingerprint);
    must_be!("its operation", &*record.operation, operation if operation == OPERATION);
    must_be!(
        "its lease", record.state,
        RecordState::Running { lease_left } if is_left(lab, lease_left, request.lease)
    );
    must_be!("its life", record.expires_in, left if is_left(lab, left, life(&request)));
    Ok(())
}

/// Of a time that lasts: it is less by no more than half a lease that does, for a slow machine.
fn is_left(lab: &Lab<'_>, left: Duration, of: Duration) -> bool {
    left <= of && left + lab.lasting() / 2 > of
}

async fn absent_key_is_acquired_whatever_is_taken_over(lab: &Lab<'_>) -> Verdict {
    let request = CaseRequest {
        take_over: Some(3),
        ..lab.request()?
    };
    let claim = lab.store.claim(&request).await?;
    must_be!(
        "taking over attempt 3 of an absent key",
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    );
    Ok(())
}

async fn claim_is_idempotent_per_token(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let before = lab.record(&key).await?;
    let longer = CaseRequest {
        lease: request.lease * 2,
        retention: request.retention * 2,
        ..request
    };
    let taking_over = CaseRequest {
        take_over: Some(1),
        ..request
    };
    for again in [request, longer, taking_over] {
        let claim = lab.store.claim(&again).await?;
        must_be!(
            "the same token again",
            claim,
            Claim::Acquired(Acquired { attempt: 1, .. })
        );
        unchanged("the same token again", &before, lab.store.get(&key).await?)?;
    }
    lab.completed(&request.owner).await?;
    Ok(())
}

async fn claim_is_idempotent_per_token_after_its_lease(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let before = lab.record(&request.owner.key).await?;
    let taking_over = CaseRequest {
        take_over: Some(1),
        ..request
    };
    for again in [request, taking_over] {
        let claim = lab.store.claim(&again).await?;
        let what = "the same token again, its lease over and no other attempt there";
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
        unchanged(what, &before, lab.store.get(&again.owner.key).await?)?;
    }
    lab.completed(&request.owner).await?;
    Ok(())
}

async fn second_token_finds_it_in_flight(lab: &Lab<'_>) -> Verdict {
    let first = lab.claimed(lab.request()?).await?;
    let key = first.owner.key;
    let before = lab.record(&key).await?;
    for second in [rival(&first)?, lab.heir(&first, 1)?] {
        let claim = lab.store.claim(&second).await?;
        must_be!(
            "a second token", claim,
            Claim::InFlight { lease_left } if is_left(lab, lease_left, first.lease)
        );
        unchanged("a second token", &before, lab.store.get(&key).await?)?;
        let completion = lab.complete(&second.owner, &answer("no")).await?;
        must_be!("completing without the claim", completion, Completion::Lost);
    }
    lab.completed(&first.owner).await?;
    Ok(())
}

async fn completed_is_returned_to_every_token(lab: &Lab<'_>) -> Verdict {
    let first = lab.claimed(lab.request()?).await?;
    let response = lab.completed(&first.owner).await?;
    let before = lab.record(&first.owner.key).await?;
    for request in [first, rival(&first)?, lab.heir(&first, 1)?] {
        let claim = lab.store.claim(&request).await?;
        must_be!("claiming a completed key", claim, Claim::Completed(got) if got == response);
        unchanged(
            "claiming a completed key",
            &before,
            lab.store.get(&request.owner.key).await?,
        )?;
    }
    Ok(())
}
