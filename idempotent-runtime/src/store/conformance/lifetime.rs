//! Lifetimes: completed stays to its expiry and no longer, and expired is absent.

use super::case::{Verdict, cases, must_be, unchanged};
use super::lab::{Lab, answer, other_request, rival};
use crate::record::RecordState;
use crate::store::{Claim, ClaimRequest, Completion, Release, Renewal};

cases! {
    Immutable:
        first_completion_stays,
        completed_outlives_its_lease,
        completion_does_not_move_the_expiry,
        expired_is_absent_to_every_operation,
        expired_key_starts_over,
        purge_takes_nothing_alive;
}

async fn first_completion_stays(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let first = lab.completed(&request.owner).await?;
    let before = lab.record(&key).await?;
    for again in [first, answer("a second answer")] {
        let completion = lab.store.complete(&request.owner, &again).await?;
        must_be!("completing twice", completion, Completion::AlreadyMine);
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
        let kept = lab.store.kept(&request.owner.key, &request.fingerprint);
        if let Some(kept) = kept {
            must_be!("what is kept of a completed key", kept, got if got == response);
        }
        let what = "claiming a completed key after the lease";
        must_be!(what, claim, Claim::Completed(got) if got == response);
    }
    let completion = lab.store.complete(&request.owner, &answer("again")).await?;
    must_be!(
        "completing twice, after the lease",
        completion,
        Completion::AlreadyMine
    );
    unchanged(
        "all that",
        &before,
        lab.store.get(&request.owner.key).await?,
    )
}

async fn completion_does_not_move_the_expiry(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let early = lab.claimed(lab.mortal_request()?).await?;
    let late = lab.claimed(lab.mortal_request()?).await?;
    let response = answer("the answer");
    let completion = lab.store.complete(&early.owner, &response).await?;
    lab.advance(lab.ttl() * 3 / 4).await;
    let before = lab.store.claim(&rival(&early)?).await?;
    let late_completion = lab.store.complete(&late.owner, &response).await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("completing early", completion, Completion::Stored);
    must_be!("completing late", late_completion, Completion::Stored);
    must_be!("claiming it before its expiry", before, Claim::Completed(got) if got == response);
    lab.advance(lab.ttl() / 4 + lab.tolerance()).await;
    let record = lab.store.get(&early.owner.key).await?;
    must_be!(
        "reading what was completed early, after its expiry",
        record,
        None
    );
    let record = lab.store.get(&late.owner.key).await?;
    must_be!(
        "reading what was completed late, after its expiry",
        record,
        None
    );
    Ok(())
}

async fn expired_is_absent_to_every_operation(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let running = lab.claimed(lab.mortal_request()?).await?;
    let completed = lab.claimed(lab.mortal_request()?).await?;
    let completion = lab
        .store
        .complete(&completed.owner, &answer("for a while"))
        .await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("completing an own claim", completion, Completion::Stored);
    lab.end_lives().await;
    for request in [running, completed] {
        let kept = lab.store.kept(&request.owner.key, &request.fingerprint);
        must_be!("what is kept of the expired", kept, None);
        let ClaimRequest { owner, lease, .. } = request;
        must_be!(
            "reading the expired",
            lab.store.get(&owner.key).await?,
            None
        );
        let completion = lab.store.complete(&owner, &answer("too late")).await?;
        must_be!("completing the expired", completion, Completion::Lost);
        must_be!(
            "releasing the expired",
            lab.store.release(&owner).await?,
            Release::Lost
        );
        let lost = lab
            .store
            .renew(&[Renewal {
                owner,
                lease: lease * 10,
            }])
            .await?;
        must_be!("renewing the expired", lost, lost if lost == [owner]);
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
    let completion = lab
        .store
        .complete(&completed.owner, &answer("for a while"))
        .await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("completing an own claim", completion, Completion::Stored);
    lab.end_lives().await;
    starts_over(lab, &abandoned, &other_request(&rival(&abandoned)?)).await?;
    starts_over(lab, &completed, &other_request(&rival(&completed)?)).await?;
    starts_over(lab, &to_inherit, &lab.heir(&to_inherit, 1)?).await
}

/// The new claim finds nothing of the old one, and the old one cannot touch the new.
async fn starts_over(lab: &Lab<'_>, old: &ClaimRequest, new: &ClaimRequest) -> Verdict {
    let lasting = lab.request()?;
    let new = ClaimRequest {
        lease: lasting.lease,
        ttl: lasting.ttl,
        ..*new
    };
    let watch = lab.stopwatch();
    let claim = lab.store.claim(&new).await?;
    let most = watch.elapsed() + lab.tolerance();
    let what = "claiming an expired key";
    must_be!(what, claim, Claim::Acquired { attempt: 1, age } if age <= most);
    let record = lab.record(&new.owner.key).await?;
    must_be!("its fingerprint", record.fingerprint, print if print == new.fingerprint);
    must_be!("its state", &record.state, RecordState::Running { .. });
    must_be!("its life", record.expires_in, left if left > new.ttl / 2);
    let completion = lab
        .store
        .complete(&old.owner, &answer("of the old one"))
        .await?;
    must_be!(
        "completing with the old token",
        completion,
        Completion::Lost
    );
    let release = lab.store.release(&old.owner).await?;
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
        lab.claimed(ClaimRequest {
            ttl: lab.lease(),
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
    must_be!(
        "purging no more than 0",
        lab.store.purge_expired(0).await?,
        0
    );
    // A server that others use may have more to purge than this case has left there.
    for _ in 0..=EXPIRED / PURGE {
        let purged = lab.store.purge_expired(PURGE).await?;
        must_be!("purging no more than 3", purged, 0..=PURGE);
    }
    for (key, before) in alive.iter().zip(&before) {
        unchanged("purging", before, lab.store.get(key).await?)?;
    }
    Ok(())
}
