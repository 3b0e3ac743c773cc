//! What operators and sweepers use: reading and removing.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{OPERATION, answer, other_request, rival};
use super::verdict::{Verdict, must_be, unchanged};
use crate::key::RecordKey;
use crate::record::RecordState;
use crate::store::{Acquired, Claim, Completion, Purged, Release};

cases! {
    Documented:
        reading_tells_the_state_and_changes_nothing,
        removed_key_is_free,
        purge_names_the_abandoned;
}

async fn reading_tells_the_state_and_changes_nothing(lab: &Lab<'_>) -> Verdict {
    let request = lab.brief_request()?;
    let key = request.owner.key;
    must_be!("reading an absent key", lab.store.get(&key).await?, None);
    let watch = lab.stopwatch();
    lab.claimed(request).await?;
    let running = lab.record(&key).await?.state;
    watch.must_be_within(lab.lease())?;
    let most = lab.lease();
    must_be!(
        "reading a running record", running,
        RecordState::Running { lease_left } if !lease_left.is_zero() && lease_left <= most
    );
    lab.end_leases().await;
    lab.must_be_abandoned(&request).await?;
    let abandoned = lab.record(&key).await?;
    must_be!(
        "reading an abandoned record",
        &abandoned.state,
        RecordState::Abandoned
    );
    unchanged("reading it twice", &abandoned, lab.store.get(&key).await?)?;
    let response = lab.completed(&request.owner).await?;
    let completed = lab.record(&key).await?;
    must_be!(
        "reading a completed record", &completed.state,
        RecordState::Completed(got) if *got == response
    );
    must_be!("its attempt", completed.attempt, 1);
    must_be!("its fingerprint", completed.fingerprint, print if print == request.fingerprint);
    unchanged("reading it twice", &completed, lab.store.get(&key).await?)
}

const EXPIRED: usize = 5;

/// How often to purge until there is nothing left of this case, on a server that others use too.
const PURGES: usize = 100;

/// A store whose server removes what has expired by itself purges nothing, and is not judged.
async fn purge_names_the_abandoned(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let (mut forgotten, mut done) = (Vec::new(), Vec::new());
    for n in 0..EXPIRED {
        let request = lab.claimed(lab.mortal_request()?).await?;
        if n == 0 {
            let abandoned = lab.abandon(&request.owner).await?;
            must_be!("abandoning an own claim", abandoned, Release::Released);
        }
        forgotten.push(request.owner.key);
        let request = lab.claimed(lab.mortal_request()?).await?;
        let response = answer("for a while");
        let completion = lab.store.complete(&request.owner, &response, lab.lease());
        must_be!(
            "completing an own claim",
            completion.await?,
            Completion::Stored
        );
        done.push(request.owner.key);
    }
    watch.must_be_within(lab.ttl())?;
    lab.end_lives().await;
    // A store may look for what has expired by the second.
    lab.advance(Duration::from_secs(1)).await;
    let mut all = Purged::default();
    for _ in 0..PURGES {
        let purged = lab.store.purge_expired(100).await?;
        let is_over = purged.records == 0;
        all.records += purged.records;
        all.abandoned.extend(purged.abandoned);
        if is_over {
            break;
        }
    }
    if all.records == 0 {
        return Ok(());
    }
    let named = |key: &RecordKey| {
        all.abandoned
            .iter()
            .filter(|claim| claim.key == *key)
            .count()
    };
    for key in &forgotten {
        must_be!(
            "how often an abandoned claim is named by a purge",
            named(key),
            1
        );
    }
    for key in &done {
        must_be!(
            "how often a completed record is named by a purge",
            named(key),
            0
        );
    }
    let mut ours = all
        .abandoned
        .iter()
        .filter(|claim| forgotten.contains(&claim.key));
    let wrong = ours.find(|claim| *claim.operation != *OPERATION);
    must_be!("a claim with another operation", wrong, None);
    let counted = all.records >= forgotten.len() + done.len();
    must_be!("whether the purge has counted all of them", counted, true);
    Ok(())
}

async fn removed_key_is_free(lab: &Lab<'_>) -> Verdict {
    let running = lab.claimed(lab.request()?).await?;
    let completed = lab.claimed(lab.request()?).await?;
    lab.completed(&completed.owner).await?;
    for request in [running, completed] {
        let key = request.owner.key;
        must_be!("removing a record", lab.store.remove(&key).await?, true);
        must_be!("reading it after that", lab.store.get(&key).await?, None);
        must_be!("removing it again", lab.store.remove(&key).await?, false);
        let completion = lab.complete(&request.owner, &answer("removed")).await?;
        must_be!("completing what was removed", completion, Completion::Lost);
        let claim = lab.store.claim(&other_request(&rival(&request)?)).await?;
        must_be!(
            "another request for a removed key",
            claim,
            Claim::Acquired(Acquired { attempt: 1, .. })
        );
    }
    Ok(())
}
