//! Progress: how far a claim has got, kept for the attempt after it and for no other.

use std::sync::Arc;

use bytes::Bytes;

use super::case::cases;
use super::lab::Lab;
use super::races::{HOUR, insist, race};
use super::request::{CaseRequest, answer, other_request, renewal, rival, stranger};
use super::verdict::{Failure, Verdict, must_be, unchanged};
use crate::record::{Owner, Record, RecordState};
use crate::store::{Acquired, Claim, Completion, Progress, Release, Renewed, Store, StoreError};

cases! {
    Fencing:
        only_the_owner_saves_progress,
        taken_over_owner_saves_no_progress,
        completed_claim_saves_no_progress,
        record_that_is_gone_takes_no_progress;
    LeaseIsNotLife:
        progress_is_saved_after_the_lease,
        progress_moves_neither_lease_nor_expiry;
    AtomicClaim:
        longest_of_sixteen_saved_at_once_stays,
        progress_and_completion_at_once_leave_the_completion;
    Documented:
        saved_progress_is_read,
        progress_comes_back_byte_for_byte,
        progress_only_grows,
        progress_stays_while_the_claim_is_held,
        take_over_keeps_the_progress,
        first_claim_brings_its_progress,
        progress_that_a_claim_brings_is_for_a_new_record,
        completion_drops_the_progress,
        released_or_removed_key_starts_without_progress,
        expired_key_starts_without_progress;
}

/// All of it, from the beginning.
async fn saved(lab: &Lab<'_>, owner: &Owner, progress: &'static [u8]) -> Verdict {
    let answered = lab
        .store
        .save_progress(owner, 0, &Bytes::from_static(progress))
        .await?;
    must_be!("saving progress of an own claim", answered, Progress::Saved);
    Ok(())
}

async fn lost(lab: &Lab<'_>, what: &str, owner: &Owner) -> Verdict {
    let progress = Bytes::from_static(b"longer than anything that is kept");
    let answered = lab.store.save_progress(owner, 0, &progress).await?;
    must_be!(what, answered, Progress::Lost);
    Ok(())
}

async fn must_be_kept(lab: &Lab<'_>, what: &str, owner: &Owner, progress: &[u8]) -> Verdict {
    let kept = lab.record(&owner.key).await?.progress;
    if kept == progress {
        return Ok(());
    }
    let expected = Bytes::copy_from_slice(progress);
    Err(Failure::unexpected(what, &format!("{expected:?}"), &kept))
}

async fn only_the_owner_saves_progress(lab: &Lab<'_>) -> Verdict {
    let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
    let what = "saving progress of another's claim";
    for progress in [&b""[..], b"step 1"] {
        if !progress.is_empty() {
            saved(lab, &owner, b"step 1").await?;
        }
        let before = lab.record(&owner.key).await?;
        lost(lab, what, &stranger(&owner)?).await?;
        unchanged(what, &before, lab.store.get(&owner.key).await?)?;
    }
    Ok(())
}

async fn taken_over_owner_saves_no_progress(lab: &Lab<'_>) -> Verdict {
    let (old, new) = lab.taken_over().await?;
    let what = "saving progress of what was taken over";
    lost(lab, what, &old.owner).await?;
    saved(lab, &new.owner, b"step 1").await?;
    lost(lab, what, &old.owner).await?;
    must_be_kept(lab, what, &new.owner, b"step 1").await
}

async fn completed_claim_saves_no_progress(lab: &Lab<'_>) -> Verdict {
    let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
    lab.completed(&owner).await?;
    let before = lab.record(&owner.key).await?;
    let what = "saving progress of what one completed";
    lost(lab, what, &owner).await?;
    unchanged(what, &before, lab.store.get(&owner.key).await?)
}

async fn record_that_is_gone_takes_no_progress(lab: &Lab<'_>) -> Verdict {
    let absent = lab.request()?.owner;
    lost(lab, "saving progress of an absent key", &absent).await?;
    let is_there = lab.store.get(&absent.key).await?;
    must_be!("reading it after that", is_there, None);

    let expired = lab.claimed(lab.mortal_request()?).await?.owner;
    lab.end_lives().await;
    lost(lab, "saving progress of the expired", &expired).await?;
    let is_there = lab.store.get(&expired.key).await?;
    must_be!("reading it after that", is_there, None);
    Ok(())
}

async fn progress_is_saved_after_the_lease(lab: &Lab<'_>) -> Verdict {
    let CaseRequest { owner, .. } = lab.abandoned().await?;
    saved(lab, &owner, b"step 1").await?;
    must_be_kept(lab, "reading what was saved", &owner, b"step 1").await
}

async fn progress_moves_neither_lease_nor_expiry(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let CaseRequest { owner, .. } = lab.claimed(lab.mortal_request()?).await?;
    lab.advance(lab.lease() / 2).await;
    let running = with_progress(lab.record(&owner.key).await?, b"step 1");
    saved(lab, &owner, b"step 1").await?;
    let after = lab.store.get(&owner.key).await?;
    watch.must_be_within(lab.lease())?;
    unchanged("saving progress while it runs", &running, after)?;

    lab.advance(lab.lease() / 2 + lab.tolerance()).await;
    let abandoned = with_progress(lab.record(&owner.key).await?, b"step 1, step 2");
    saved(lab, &owner, b"step 1, step 2").await?;
    let after = lab.store.get(&owner.key).await?;
    watch.must_be_within(lab.ttl())?;
    must_be!("its state", &abandoned.state, RecordState::Abandoned);
    unchanged("saving progress after the lease", &abandoned, after)?;

    lab.end_lives().await;
    let record = lab.store.get(&owner.key).await?;
    must_be!("reading it after its expiry", record, None);
    Ok(())
}

fn with_progress(record: Record, progress: &'static [u8]) -> Record {
    Record {
        progress: Bytes::from_static(progress),
        ..record
    }
}

async fn save(
    store: Arc<dyn Store>,
    owner: Owner,
    progress: Bytes,
) -> Result<Progress, StoreError> {
    insist(|| store.save_progress(&owner, 0, &progress)).await
}

const SAVERS: usize = 16;
const RACES: usize = 40;

async fn longest_of_sixteen_saved_at_once_stays(lab: &Lab<'_>) -> Verdict {
    let longest = Bytes::from_static(&[7; SAVERS]);
    for _ in 0..RACES {
        let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
        let savers = (1..=SAVERS)
            .rev()
            .map(|length| save(lab.store.clone(), owner, longest.slice(..length)));
        for answered in race(savers.collect()).await? {
            must_be!(
                "saving progress 16 times at once",
                answered,
                Progress::Saved
            );
        }
        must_be_kept(lab, "the longest of 16 saved at once", &owner, &longest).await?;
    }
    Ok(())
}

async fn progress_and_completion_at_once_leave_the_completion(lab: &Lab<'_>) -> Verdict {
    for round in 0..RACES {
        let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
        let savers = (1..=SAVERS).map(|length| {
            let (store, progress) = (lab.store.clone(), Bytes::from(vec![7; length]));
            Box::pin(async move { save(store, owner, progress).await.map(|_| None) }) as Saving
        });
        let mut contenders: Vec<_> = savers.collect();
        let (store, response) = (lab.store.clone(), answer("the first answer"));
        let complete = async move {
            insist(|| store.complete(&owner, &response, HOUR))
                .await
                .map(Some)
        };
        contenders.insert(round % SAVERS, Box::pin(complete));
        let completions: Vec<_> = race(contenders).await?.into_iter().flatten().collect();
        let what = "completing while progress is saved";
        must_be!(what, completions.as_slice(), [Completion::Stored]);
        let record = lab.record(&owner.key).await?;
        must_be!(what, record.state, RecordState::Completed(_));
        must_be!(what, record.progress, progress if progress.is_empty());
    }
    Ok(())
}

type Saving = std::pin::Pin<
    Box<dyn Future<Output = Result<Option<Completion>, StoreError>> + Send + 'static>,
>;

async fn saved_progress_is_read(lab: &Lab<'_>) -> Verdict {
    let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
    must_be_kept(lab, "reading a claim that has saved nothing", &owner, b"").await?;
    let before = with_progress(lab.record(&owner.key).await?, b"step 1");
    saved(lab, &owner, b"step 1").await?;
    let what = "reading what was saved";
    unchanged(what, &before, lab.store.get(&owner.key).await?)?;
    let other = lab.claimed(lab.request()?).await?.owner;
    must_be_kept(lab, "reading another record", &other, b"").await
}

/// More than a store's column for short texts holds, and more than its column for long ones.
const KIBIBYTES_256: usize = 256 * 1024;

async fn progress_comes_back_byte_for_byte(lab: &Lab<'_>) -> Verdict {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for progress in [
        vec![0],
        b"'; \"\\ \xff\xfe\0 {}\r\n".to_vec(),
        every_byte.clone(),
        every_byte.repeat(KIBIBYTES_256 / every_byte.len()),
    ] {
        let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
        let progress = Bytes::from(progress);
        let answered = lab.store.save_progress(&owner, 0, &progress).await?;
        must_be!("saving progress", answered, Progress::Saved);
        let kept = lab.record(&owner.key).await?.progress;
        let what = format!("reading {} bytes of progress", progress.len());
        must_be!(&what, kept, kept if kept == progress);
    }
    Ok(())
}

async fn progress_only_grows(lab: &Lab<'_>) -> Verdict {
    let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
    saved(lab, &owner, b"").await?;
    must_be_kept(lab, "saving no bytes", &owner, b"").await?;
    saved(lab, &owner, b"step 1, step 2").await?;
    let before = lab.record(&owner.key).await?;
    for (what, late) in [
        ("saving the same again", &b"step 1, step 2"[..]),
        ("saving as many bytes", b"step 3, step 4"),
        ("saving fewer bytes", b"step 1"),
        ("saving no bytes", b""),
    ] {
        saved(lab, &owner, late).await?;
        unchanged(what, &before, lab.store.get(&owner.key).await?)?;
    }
    saved(lab, &owner, b"step 1, step 2, step 3").await?;
    let what = "saving more bytes";
    must_be_kept(lab, what, &owner, b"step 1, step 2, step 3").await
}

async fn progress_stays_while_the_claim_is_held(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let owner = request.owner;
    saved(lab, &owner, b"step 1").await?;
    let renewed = lab.renew(renewal(&request)).await?;
    must_be!("renewing an own claim", renewed, Renewed::Renewed);
    must_be_kept(lab, "after a renewal", &owner, b"step 1").await?;
    for again in [request, rival(&request)?, other_request(&request)] {
        lab.store.claim(&again).await?;
        must_be_kept(lab, "after claims that changed nothing", &owner, b"step 1").await?;
    }
    Ok(())
}

async fn take_over_keeps_the_progress(lab: &Lab<'_>) -> Verdict {
    let old = lab.abandoned().await?;
    saved(lab, &old.owner, b"step 1, step 2").await?;
    let new = lab.heir(&old, 1)?;
    let claim = lab.store.claim(&new).await?;
    must_be!(
        "taking over attempt 1",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    let kept = b"step 1, step 2";
    must_be_kept(lab, "after a take-over", &new.owner, kept).await?;
    saved(lab, &new.owner, b"step 1").await?;
    must_be_kept(
        lab,
        "saving fewer bytes after a take-over",
        &new.owner,
        kept,
    )
    .await?;
    let grown = b"step 1, step 2, step 3";
    saved(lab, &new.owner, grown).await?;
    must_be_kept(
        lab,
        "saving more bytes after a take-over",
        &new.owner,
        grown,
    )
    .await
}

/// Also one that begins anew after a record that has expired.
async fn first_claim_brings_its_progress(lab: &Lab<'_>) -> Verdict {
    let expired = lab.claimed(lab.mortal_request()?).await?;
    saved(lab, &expired.owner, b"step 1, step 2").await?;
    lab.end_lives().await;
    for first in [lab.request()?, lab.heir(&expired, 1)?] {
        let request = CaseRequest {
            progress: b"\0\xff'",
            ..first
        };
        for what in [
            "claiming with progress",
            "claiming again with the same token",
        ] {
            let claim = lab.store.claim(&request).await?;
            must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
            must_be_kept(lab, what, &request.owner, b"\0\xff'").await?;
        }
        saved(lab, &request.owner, b"\0\xff', step 1").await?;
        must_be_kept(lab, "its progress", &request.owner, b"\0\xff', step 1").await?;
        lab.completed(&request.owner).await?;
    }
    Ok(())
}

async fn progress_that_a_claim_brings_is_for_a_new_record(lab: &Lab<'_>) -> Verdict {
    for there in [&b""[..], b"step 1"] {
        let old = lab.abandoned().await?;
        saved(lab, &old.owner, there).await?;
        let bringing = |request| CaseRequest {
            progress: b"another",
            ..request
        };
        let late = bringing(rival(&old)?);
        let claim = lab.store.claim(&late).await?;
        must_be!("claiming what is abandoned", claim, Claim::Abandoned { .. });
        must_be_kept(lab, "after a claim that changed nothing", &old.owner, there).await?;
        let new = bringing(lab.heir(&old, 1)?);
        let claim = lab.store.claim(&new).await?;
        let what = "taking over attempt 1";
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 2, .. }));
        must_be_kept(lab, "after a take-over", &new.owner, there).await?;
    }
    Ok(())
}

async fn completion_drops_the_progress(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    saved(lab, &request.owner, b"step 1").await?;
    let response = lab.completed(&request.owner).await?;
    must_be_kept(lab, "after a completion", &request.owner, b"").await?;
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!("claiming it after that", claim, Claim::Completed(got) if got == response);
    Ok(())
}

async fn released_or_removed_key_starts_without_progress(lab: &Lab<'_>) -> Verdict {
    let [released, removed] = [lab.request()?, lab.request()?];
    for request in [released, removed] {
        lab.claimed(request).await?;
        saved(lab, &request.owner, b"step 1").await?;
    }
    let release = lab.release(&released.owner).await?;
    must_be!("releasing an own claim", release, Release::Released);
    let was_there = lab.store.remove(&removed.owner.key).await?;
    must_be!("removing a record", was_there, true);
    for old in [released, removed] {
        lost(lab, "saving progress of what is gone", &old.owner).await?;
        starts_without_progress(lab, &rival(&old)?).await?;
    }
    Ok(())
}

async fn expired_key_starts_without_progress(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let old = lab.claimed(lab.mortal_request()?).await?;
    saved(lab, &old.owner, b"step 1, step 2").await?;
    watch.must_be_within(lab.ttl())?;
    lab.end_lives().await;
    let lasting = lab.heir(&old, 1)?;
    starts_without_progress(lab, &lasting).await?;
    lost(lab, "saving progress with the old token", &old.owner).await
}

/// And keeps what is saved then, though it is shorter than what there was before.
async fn starts_without_progress(lab: &Lab<'_>, new: &CaseRequest) -> Verdict {
    let claim = lab.store.claim(new).await?;
    let what = "the first claim of a key that was used before";
    must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
    must_be_kept(lab, what, &new.owner, b"").await?;
    saved(lab, &new.owner, b"1").await?;
    must_be_kept(lab, "its progress", &new.owner, b"1").await
}
