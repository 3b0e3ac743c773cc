//! Lifetimes: completed stays to its expiry and no longer, and expired is absent.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, life, other_request, renewal, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion, Purged, Release, Renewed};

cases! {
    Immutable:
        first_completion_stays,
        completed_outlives_its_lease,
        completion_sets_the_expiry,
        expired_is_absent_to_every_operation,
        expired_key_starts_over,
        purge_takes_nothing_alive;
}

async fn first_completion_stays(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let first = lab.completed(&request.owner).await?;
    let before = lab.record(&key).await?;
    let longer = lab.lasting() * 8;
    for again in [first, answer("a second answer")] {
        let completion = lab.store.complete(&request.owner, &again, longer).await?;
        must_be!("completing twice", completion, Completion::AlreadyCompleted);
        unchanged("completing twice", &before, lab.store.get(&key).await?)?;
    }
    Ok(())
}

async fn completed_outlives_its_lease(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.brief_request()?).await?;
    let response = lab.completed(&request.owner).await?;
    let before = lab.record(&request.owner.key).await?;
    lab.end_leases().await;
    for request in [request, rival(&request)?, lab.heir(&request, 1)?] {
        let claim = lab.store.claim(&request).await?;
        let what = "claiming a completed key after the lease";
        must_be!(what, claim, Claim::Completed(got) if got == response);
    }
    let completion = lab.complete(&request.owner, &answer("again")).await?;
    must_be!(
        "completing twice, after the lease",
        completion,
        Completion::AlreadyCompleted
    );
    unchanged(
        "all that",
        &before,
        lab.store.get(&request.owner.key).await?,
    )
}

/// To the TTL from then on, whatever the lease and the retention were.
async fn completion_sets_the_expiry(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let long = lab.claimed(lab.request()?).await?;
    let brief = lab.claimed(lab.mortal_request()?).await?;
    let late = lab.claimed(lab.mortal_request()?).await?;
    let response = answer("the answer");
    let (short, lasting) = (lab.ttl() / 2, lab.lasting());
    lab.advance(lab.lease() + lab.tolerance()).await;
    let completed = lab.stopwatch();
    for (request, ttl) in [(&long, short), (&brief, lasting), (&late, short)] {
        let completion = lab.store.complete(&request.owner, &response, ttl).await?;
        watch.must_be_within(lab.ttl())?;
        must_be!("completing an own claim", completion, Completion::Stored);
        let left = lab.store.get(&request.owner.key).await?;
        completed.must_be_within(short)?;
        let left = left.map(|record| record.expires_in);
        let least = ttl.saturating_sub(completed.elapsed() + lab.tolerance());
        must_be!("its life after that", left, Some(left) if left <= ttl && left >= least);
    }
    lab.advance(short + lab.tolerance()).await;
    for request in [&long, &late] {
        let record = lab.store.get(&request.owner.key).await?;
        must_be!("reading what was completed, after its TTL", record, None);
    }
    // Its claim would be at its end by now.
    lab.advance(lab.ttl()).await;
    let claim = lab.store.claim(&rival(&brief)?).await?;
    let what = "claiming what was completed, within its TTL and after the end of its claim";
    must_be!(what, claim, Claim::Completed(got) if got == response);
    Ok(())
}

async fn expired_is_absent_to_every_operation(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let running = lab.claimed(lab.mortal_request()?).await?;
    let completed = lab.claimed(lab.mortal_request()?).await?;
    let response = answer("for a while");
    let completion = lab.store.complete(&completed.owner, &response, lab.ttl());
    let completion = completion.await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("completing an own claim", completion, Completion::Stored);
    lab.end_lives().await;
    for request in [running, completed] {
        let owner = request.owner;
        must_be!(
            "reading the expired",
            lab.store.get(&owner.key).await?,
            None
        );
        let completion = lab.complete(&owner, &answer("too late")).await?;
        must_be!("completing the expired", completion, Completion::Lost);
        must_be!(
            "releasing the expired",
            lab.release(&owner).await?,
            Release::Lost
        );
        let lasting = CaseRequest {
            owner,
            ..lab.request()?
        };
        let renewed = lab.renew(renewal(&lasting)).await?;
        must_be!("renewing the expired", renewed, Renewed::Lost);
        let abandoned = lab.abandon(&owner).await?;
        must_be!("abandoning the expired", abandoned, Release::Lost);
        must_be!(
            "reading it after that",
            lab.store.get(&owner.key).await?,
            None
        );
    }
    Ok(())
}

async fn expired_key_starts_over(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let abandoned = lab.claimed(lab.mortal_request()?).await?;
    let completed = lab.claimed(lab.mortal_request()?).await?;
    let to_inherit = lab.claimed(lab.mortal_request()?).await?;
    let response = answer("for a while");
    let completion = lab.store.complete(&completed.owner, &response, lab.ttl());
    let completion = completion.await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("completing an own claim", completion, Completion::Stored);
    lab.end_lives().await;
    starts_over(lab, &abandoned, &other_request(&rival(&abandoned)?)).await?;
    starts_over(lab, &completed, &other_request(&rival(&completed)?)).await?;
    starts_over(lab, &to_inherit, &lab.heir(&to_inherit, 1)?).await
}

/// The new claim finds nothing of the old one, and the old one cannot touch the new.
async fn starts_over(lab: &Lab<'_>, old: &CaseRequest, new: &CaseRequest) -> Verdict {
    let lasting = lab.request()?;
    let new = CaseRequest {
        lease: lasting.lease,
        retention: lasting.retention,
        ..*new
    };
    let watch = lab.stopwatch();
    let claim = lab.store.claim(&new).await?;
    let most = watch.elapsed() + lab.tolerance();
    let what = "claiming an expired key";
    must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, age }) if age <= most);
    let record = lab.record(&new.owner.key).await?;
    must_be!("its fingerprint", record.fingerprint, print if print == new.fingerprint);
    must_be!("its state", &record.state, RecordState::Running { .. });
    must_be!("its life", record.expires_in, left if left > life(&new) / 2);
    let completion = lab.complete(&old.owner, &answer("of the old one")).await?;
    must_be!(
        "completing with the old token",
        completion,
        Completion::Lost
    );
    let release = lab.release(&old.owner).await?;
    must_be!("releasing with the old token", release, Release::Lost);
    let response = lab.completed(&new.owner).await?;
    let claim = lab.store.claim(&rival(&new)?).await?;
    must_be!("claiming the new one", claim, Claim::Completed(got) if got == response);
    Ok(())
}

const EXPIRED: usize = 7;
const PURGE: usize = 3;

async fn purge_takes_nothing_alive(lab: &Lab<'_>) -> Verdict {
    let running = lab.claimed(lab.request()?).await?;
    let abandoned = lab.claimed(lab.brief_request()?).await?;
    let completed = lab.claimed(lab.brief_request()?).await?;
    lab.completed(&completed.owner).await?;
    for _ in 0..EXPIRED {
        lab.claimed(CaseRequest {
            retention: Duration::ZERO,
            ..lab.brief_request()?
        })
        .await?;
    }
    lab.end_leases().await;
    lab.must_be_abandoned(&abandoned).await?;
    let alive = [running, abandoned, completed].map(|request| request.owner.key);
    let mut before = Vec::new();
    for key in &alive {
        before.push(lab.record(key).await?);
    }
    let purged = lab.store.purge_expired(0).await?;
    must_be!("purging no more than 0", purged, Purged { records: 0, abandoned } if abandoned.is_empty());
    // A server that others use may have more to purge than this case has left there.
    for _ in 0..=EXPIRED / PURGE {
        let purged = lab.store.purge_expired(PURGE).await?;
        must_be!(
            "purging no more than 3", purged,
            Purged { records: 0..=PURGE, abandoned } if abandoned.iter().all(|claim| !alive.contains(&claim.key))
        );
    }
    for (key, before) in alive.iter().zip(&before) {
        unchanged("purging", before, lab.store.get(key).await?)?;
    }
    Ok(())
}
