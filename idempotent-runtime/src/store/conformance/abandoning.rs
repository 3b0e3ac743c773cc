//! Abandoning: a claim ends at once, and no attempt holds its token any more.

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, renewal, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion, Progress, Release, Renewal, Renewed};

cases! {
    LeaseIsNotLife:
        abandoned_claim_says_so_at_once,
        abandoning_keeps_attempt_progress_and_expiry,
        abandoned_claim_is_taken_over,
        abandoned_claim_lives_for_its_retention;
    Fencing:
        abandoned_token_writes_nothing,
        late_question_of_an_abandoned_take_over_acquires_nothing,
        owner_abandons_after_its_lease;
}

/// Claims, and abandons the claim long before its lease ends.
async fn given_back(lab: &Lab<'_>) -> Result<CaseRequest, super::verdict::Failure> {
    let request = lab.claimed(lab.request()?).await?;
    let abandoned = lab.abandon(&request.owner).await?;
    if abandoned == Release::Released {
        return Ok(request);
    }
    let what = "abandoning an own claim";
    Err(super::verdict::Failure::unexpected(
        what, "Released", &abandoned,
    ))
}

async fn abandoned_claim_says_so_at_once(lab: &Lab<'_>) -> Verdict {
    let request = given_back(lab).await?;
    let state = lab.record(&request.owner.key).await?.state;
    must_be!("reading it after that", state, RecordState::Abandoned);
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "claiming it after that",
        claim,
        Claim::Abandoned { attempt: 1, .. }
    );
    Ok(())
}

async fn abandoning_keeps_attempt_progress_and_expiry(lab: &Lab<'_>) -> Verdict {
    let (_, request) = lab.taken_over().await?;
    let owner = request.owner;
    let progress = bytes::Bytes::from_static(b"step 1");
    let saved = lab.store.save_progress(&owner, 0, &progress).await?;
    must_be!("saving progress of an own claim", saved, Progress::Saved);
    let before = lab.record(&owner.key).await?;
    let watch = lab.stopwatch();
    let abandoned = lab.abandon(&owner).await?;
    must_be!("abandoning an own claim", abandoned, Release::Released);
    let after = lab.record(&owner.key).await?;
    must_be!("its state", &after.state, RecordState::Abandoned);
    must_be!("its attempt", after.attempt, 2);
    must_be!("its progress", &after.progress, kept if *kept == progress);
    let most = before.expires_in;
    let least = most.saturating_sub(watch.elapsed() + lab.tolerance());
    must_be!("its life", after.expires_in, left if left <= most && left >= least);
    let state = RecordState::Abandoned;
    unchanged(
        "abandoning it",
        &crate::record::Record { state, ..before },
        Some(after),
    )
}

async fn abandoned_claim_is_taken_over(lab: &Lab<'_>) -> Verdict {
    let request = given_back(lab).await?;
    let heir = lab.heir(&request, 1)?;
    let claim = lab.store.claim(&heir).await?;
    must_be!(
        "taking over attempt 1",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    let renewed = lab.renew(renewal(&heir)).await?;
    must_be!("renewing what one took over", renewed, Renewed::Renewed);
    stale_writes_are_lost(lab, &request).await?;
    let response = lab.completed(&heir.owner).await?;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!("claiming it after that", claim, Claim::Completed(got) if got == response);
    Ok(())
}

async fn abandoned_claim_lives_for_its_retention(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let request = lab.claimed(lab.mortal_request()?).await?;
    let abandoned = lab.abandon(&request.owner).await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("abandoning an own claim", abandoned, Release::Released);
    lab.end_leases().await;
    let record = lab.store.get(&request.owner.key).await?;
    watch.must_be_within(lab.ttl())?;
    let state = record.map(|record| record.state);
    must_be!(
        "reading it after the lease and within the retention",
        state,
        Some(RecordState::Abandoned)
    );
    lab.advance(lab.ttl().saturating_sub(lab.lease())).await;
    let record = lab.store.get(&request.owner.key).await?;
    must_be!("reading it after the retention", record, None);
    Ok(())
}

async fn abandoned_token_writes_nothing(lab: &Lab<'_>) -> Verdict {
    let request = given_back(lab).await?;
    let key = request.owner.key;
    let before = lab.record(&key).await?;
    stale_writes_are_lost(lab, &request).await?;
    let claim = lab.store.claim(&request).await?;
    must_be!(
        "the question of an abandoned claim, once more",
        claim,
        Claim::Abandoned { attempt: 1, .. }
    );
    unchanged("all that", &before, lab.store.get(&key).await?)
}

async fn stale_writes_are_lost(lab: &Lab<'_>, old: &CaseRequest) -> Verdict {
    let owner = old.owner;
    let late = Renewal {
        lease: old.lease * 2,
        ..renewal(old)
    };
    let renewed = lab.renew(late).await?;
    must_be!("renewing what one abandoned", renewed, Renewed::Lost);
    let completion = lab.complete(&owner, &answer("too late")).await?;
    must_be!(
        "completing what one abandoned",
        completion,
        Completion::Lost
    );
    let progress = bytes::Bytes::from_static(b"too late");
    let saved = lab.store.save_progress(&owner, 0, &progress).await?;
    must_be!(
        "saving progress of what one abandoned",
        saved,
        Progress::Lost
    );
    let release = lab.release(&owner).await?;
    must_be!("releasing what one abandoned", release, Release::Lost);
    let abandoned = lab.abandon(&owner).await?;
    must_be!("abandoning it again", abandoned, Release::Lost);
    Ok(())
}

async fn late_question_of_an_abandoned_take_over_acquires_nothing(lab: &Lab<'_>) -> Verdict {
    let (_, second) = lab.taken_over().await?;
    let abandoned = lab.abandon(&second.owner).await?;
    must_be!(
        "abandoning what one took over",
        abandoned,
        Release::Released
    );
    let before = lab.record(&second.owner.key).await?;
    let what = "the take-over of attempt 1, once more, when attempt 2 is abandoned";
    let claim = lab.store.claim(&second).await?;
    must_be!(what, claim, Claim::Abandoned { attempt: 2, .. });
    unchanged(what, &before, lab.store.get(&second.owner.key).await?)
}

/// Its late renewal would bring the claim back to life.
async fn owner_abandons_after_its_lease(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let before = lab.record(&request.owner.key).await?;
    let what = "abandoning an own claim after its lease";
    must_be!(what, lab.abandon(&request.owner).await?, Release::Released);
    let lasting = CaseRequest {
        owner: request.owner,
        ..lab.request()?
    };
    stale_writes_are_lost(lab, &lasting).await?;
    unchanged(what, &before, lab.store.get(&request.owner.key).await?)
}
