//! Leases: their end makes a claim abandoned, and nothing else; renewal puts it off.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, life, renewal, rival};
use super::verdict::{Verdict, must_be};
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion, Release, Renewal, Renewed};

cases! {
    LeaseIsNotLife:
        ended_lease_is_abandonment_and_not_absence,
        abandoned_record_lives_for_its_retention,
        decades_do_not_overflow,
        owner_completes_and_releases_after_its_lease,
        renewal_extends_the_lease,
        ended_lease_is_renewed_by_its_owner,
        renewal_of_zero_ends_the_lease,
        renewal_moves_the_expiry;
}

async fn ended_lease_is_abandonment_and_not_absence(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let request = lab.claimed(lab.mortal_request()?).await?;
    // Early in the time between the end of the lease and that of the life, and late in it.
    for (wait, least) in [(5, 1), (8, 3)] {
        lab.advance(lab.lease() * wait / 4).await;
        let claim = lab.store.claim(&rival(&request)?).await?;
        let record = lab.store.get(&request.owner.key).await?;
        let most = watch.elapsed() + lab.tolerance();
        watch.must_be_within(lab.ttl())?;
        must_be!(
            "claiming after the lease and within the retention", claim,
            Claim::Abandoned { attempt: 1, age } if age >= lab.lease() * least && age <= most
        );
        must_be!(
            "reading it",
            record.map(|record| (record.attempt, record.state)),
            Some((1, RecordState::Abandoned))
        );
    }
    Ok(())
}

/// From the end of its lease on, not from the claim.
async fn abandoned_record_lives_for_its_retention(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let (lease, retention) = (lab.lease(), lab.lease() * 2);
    let request = lab
        .claimed(CaseRequest {
            retention,
            ..lab.brief_request()?
        })
        .await?;
    let left = lab.record(&request.owner.key).await?.expires_in;
    let least = (lease + retention).saturating_sub(watch.elapsed() + lab.tolerance());
    watch.must_be_within(lease)?;
    must_be!("its life", left, left if left <= lease + retention && left >= least);
    lab.advance(lease * 9 / 4).await;
    let record = lab.store.get(&request.owner.key).await?;
    watch.must_be_within(lease + retention)?;
    let what = "reading it when the retention would be over if it counted from the claim";
    must_be!(
        what,
        record.map(|record| record.state),
        Some(RecordState::Abandoned)
    );
    lab.advance(lease).await;
    let record = lab.store.get(&request.owner.key).await?;
    must_be!("reading it after the retention", record, None);
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "claiming it after that",
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    );
    Ok(())
}

/// Ten years are the longest that can be set.
const DECADE: Duration = Duration::from_secs(3653 * 24 * 60 * 60);

async fn decades_do_not_overflow(lab: &Lab<'_>) -> Verdict {
    let is_left = |left: Duration, of: Duration| left <= of && left + lab.lasting() > of;
    let (lease, retention) = (DECADE, DECADE);
    let request = CaseRequest {
        lease,
        retention,
        ..lab.request()?
    };
    let owner = lab.claimed(request).await?.owner;
    let renewed = Renewal {
        owner,
        lease,
        retention,
    };
    for _ in 0..2 {
        let record = lab.record(&owner.key).await?;
        must_be!(
            "a lease of ten years", record.state,
            RecordState::Running { lease_left } if is_left(lease_left, lease)
        );
        must_be!("its life", record.expires_in, left if is_left(left, lease + retention));
        must_be!("renewing it", lab.renew(renewed).await?, Renewed::Renewed);
    }
    let response = answer("for ten years");
    let completion = lab.store.complete(&owner, &response, DECADE).await?;
    must_be!("completing it", completion, Completion::Stored);
    let left = lab.record(&owner.key).await?.expires_in;
    must_be!("a TTL of ten years", left, left if is_left(left, DECADE));
    Ok(())
}

async fn owner_completes_and_releases_after_its_lease(lab: &Lab<'_>) -> Verdict {
    let to_complete = lab.claimed(lab.brief_request()?).await?;
    let to_release = lab.abandoned().await?;
    let response = lab.completed(&to_complete.owner).await?;
    let claim = lab.store.claim(&rival(&to_complete)?).await?;
    must_be!("claiming it after that", claim, Claim::Completed(got) if got == response);
    let release = lab.release(&to_release.owner).await?;
    must_be!(
        "releasing an own claim after its lease",
        release,
        Release::Released
    );
    must_be!(
        "reading it after that",
        lab.store.get(&to_release.owner.key).await?,
        None
    );
    Ok(())
}

async fn renewal_extends_the_lease(lab: &Lab<'_>) -> Verdict {
    let brief = lab.brief_request()?;
    let claimed = lab.stopwatch();
    lab.claimed(brief).await?;
    lab.advance(lab.lease() / 2).await;
    let renewed = lab.stopwatch();
    let answered = lab.renew(renewal(&brief)).await?;
    claimed.must_be_within(lab.lease())?;
    must_be!("renewing an own claim", answered, Renewed::Renewed);
    lab.advance(lab.lease() * 5 / 8).await;
    let claim = lab.store.claim(&rival(&brief)?).await?;
    renewed.must_be_within(lab.lease())?;
    must_be!(
        "a second token after the lease and within its renewal", claim,
        Claim::InFlight { lease_left } if !lease_left.is_zero() && lease_left <= lab.lease()
    );
    lab.end_leases().await;
    let claim = lab.store.claim(&rival(&brief)?).await?;
    must_be!(
        "a second token after the renewal",
        claim,
        Claim::Abandoned { attempt: 1, .. }
    );
    Ok(())
}

async fn ended_lease_is_renewed_by_its_owner(lab: &Lab<'_>) -> Verdict {
    let request = lab.abandoned().await?;
    let lasting = Renewal {
        lease: lab.lasting(),
        ..renewal(&request)
    };
    let what = "renewing after the lease when no other attempt took over";
    must_be!(what, lab.renew(lasting).await?, Renewed::Renewed);
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!("a second token after that", claim, Claim::InFlight { .. });
    Ok(())
}

async fn renewal_of_zero_ends_the_lease(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let end = Renewal {
        lease: Duration::ZERO,
        ..renewal(&request)
    };
    let what = "ending an own lease";
    must_be!(what, lab.renew(end).await?, Renewed::Renewed);
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "a second token after that",
        claim,
        Claim::Abandoned { attempt: 1, .. }
    );
    Ok(())
}

/// It is the end of the renewed lease and the retention, be that later or earlier than before.
async fn renewal_moves_the_expiry(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let request = lab.claimed(lab.mortal_request()?).await?;
    let (lease, retention) = (lab.lasting(), lab.lasting() * 5);
    for (lease, retention) in [(lease, retention), (lease, retention / 4)] {
        let owner = request.owner;
        let answered = lab
            .renew(Renewal {
                owner,
                lease,
                retention,
            })
            .await?;
        watch.must_be_within(life(&request))?;
        must_be!("renewing an own claim", answered, Renewed::Renewed);
        let (left, life) = (lab.record(&owner.key).await?.expires_in, lease + retention);
        let least = life - lease / 2;
        must_be!("the life after that", left, left if left > least && left <= life);
    }
    lab.end_lives().await;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "a second token after the first expiry and within the renewed lease",
        claim,
        Claim::InFlight { .. }
    );
    lab.completed(&request.owner).await?;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(
        "claiming what was completed then",
        claim,
        Claim::Completed(_)
    );
    Ok(())
}
