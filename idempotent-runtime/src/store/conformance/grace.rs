//! The last lease that an owner gets before its claim is taken over.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{answer, renewal, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion, Release, Renewed};

cases! {
    LeaseIsNotLife:
        grace_is_a_lease_of_the_same_owner,
        grace_that_is_not_used_ends_in_a_take_over,
        grace_moves_the_expiry;
    Fencing:
        grace_is_for_the_attempt_that_is_named,
        living_claim_gets_no_grace,
        claim_that_its_owner_abandoned_gets_no_grace,
        completed_record_gets_no_grace;
}

impl Lab<'_> {
    async fn give_grace(
        &self,
        key: &crate::key::RecordKey,
        attempt: u32,
    ) -> Result<bool, super::verdict::Failure> {
        let (grace, retention) = (self.lasting(), self.lasting());
        let given = self.store.give_grace(key, attempt, grace, retention).await;
        Ok(given?)
    }
}

async fn grace_is_a_lease_of_the_same_owner(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let key = request.owner.key;
    let given = lab.give_grace(&key, 1).await?;
    must_be!("giving grace to attempt 1, which is abandoned", given, true);
    let claim = lab.store.claim(&rival(&request)?).await?;
    let most = lab.lasting();
    must_be!("claiming it", claim, Claim::InFlight { lease_left } if lease_left <= most);
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    must_be!("taking it over", claim, Claim::InFlight { .. });
    let again = lab.give_grace(&key, 1).await?;
    must_be!("giving grace again", again, false);
    let renewed = lab.renew(renewal(&request)).await?;
    must_be!("renewing it by its owner", renewed, Renewed::Renewed);
    let completed = lab.complete(&request.owner, &answer("late")).await?;
    must_be!("completing it by its owner", completed, Completion::Stored);
    Ok(())
}

async fn grace_that_is_not_used_ends_in_a_take_over(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let key = request.owner.key;
    let retention = lab.lasting();
    let given = lab.store.give_grace(&key, 1, lab.lease(), retention);
    must_be!("giving grace to attempt 1", given.await?, true);
    lab.end_leases().await;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "claiming it after the grace",
        claim,
        Claim::Abandoned { attempt: 1, .. }
    );
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    must_be!(
        "taking it over after the grace",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    Ok(())
}

async fn grace_moves_the_expiry(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let key = request.owner.key;
    let (grace, retention) = (lab.lasting(), lab.lasting() * 3);
    let watch = lab.stopwatch();
    let given = lab.store.give_grace(&key, 1, grace, retention).await?;
    must_be!("giving grace to attempt 1", given, true);
    let record = lab.record(&key).await?;
    must_be!("its state", &record.state, RecordState::Running { lease_left } if *lease_left <= grace);
    let most = grace + retention + Duration::from_millis(1);
    let least = most.saturating_sub(watch.elapsed() + lab.tolerance());
    must_be!("its life", record.expires_in, left if left <= most && left >= least);
    Ok(())
}

async fn grace_is_for_the_attempt_that_is_named(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let before = lab.record(&request.owner.key).await?;
    for attempt in [0, 2, u32::MAX] {
        let given = lab.give_grace(&request.owner.key, attempt).await?;
        must_be!("giving grace to another attempt", given, false);
    }
    let after = lab.store.get(&request.owner.key).await?;
    unchanged("giving grace to other attempts", &before, after)?;
    let absent = lab.absent_owner()?.key;
    let given = lab.give_grace(&absent, 1).await?;
    must_be!("giving grace where there is no record", given, false);
    let record = lab.store.get(&absent).await?;
    must_be!("reading it after that", record, None);
    Ok(())
}

async fn living_claim_gets_no_grace(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let before = lab.record(&request.owner.key).await?;
    let given = lab.give_grace(&request.owner.key, 1).await?;
    must_be!("giving grace to a claim whose lease runs", given, false);
    let after = lab.store.get(&request.owner.key).await?;
    unchanged("giving it grace", &before, after)
}

async fn claim_that_its_owner_abandoned_gets_no_grace(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let abandoned = lab.abandon(&request.owner).await?;
    must_be!("abandoning an own claim", abandoned, Release::Released);
    let before = lab.record(&request.owner.key).await?;
    let given = lab.give_grace(&request.owner.key, 1).await?;
    must_be!("giving grace to it", given, false);
    let after = lab.store.get(&request.owner.key).await?;
    unchanged("giving it grace", &before, after)?;
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    must_be!(
        "taking it over",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    Ok(())
}

async fn completed_record_gets_no_grace(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.brief_request()?).await?;
    lab.completed(&request.owner).await?;
    lab.end_leases().await;
    let before = lab.record(&request.owner.key).await?;
    let given = lab.give_grace(&request.owner.key, 1).await?;
    must_be!("giving grace to a completed record", given, false);
    let after = lab.store.get(&request.owner.key).await?;
    unchanged("giving it grace", &before, after)
}
