//! What operators and sweepers use: reading and removing.

use super::case::{Verdict, cases, must_be, unchanged};
use super::lab::{Lab, answer, other_request, rival};
use crate::record::RecordState;
use crate::store::{Claim, Completion};

cases! {
    Documented:
        reading_tells_the_state_and_changes_nothing,
        removed_key_is_free;
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
            Claim::Acquired { attempt: 1, .. }
        );
    }
    Ok(())
}
