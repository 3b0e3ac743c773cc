//! Take-over: of an abandoned attempt, of that one only, and what the one before may still do.

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, life, renewal, rival};
use super::verdict::{Failure, Verdict, must_be, unchanged};
use crate::key::RecordKey;
use crate::record::RecordState;
use crate::store::{Acquired, Claim, ClaimRequest, Completion, Release, Renewal, Renewed};

cases! {
    AtomicClaim:
        take_over_names_the_attempt,
        take_over_counts_and_the_age_goes_on,
        take_over_is_idempotent_per_token;
    Documented:
        first_claim_names_the_operation;
    LeaseIsNotLife:
        live_lease_is_not_taken_over,
        take_over_begins_a_new_life;
    Fencing:
        taken_over_owner_can_write_no_more,
        taken_over_token_is_a_stranger_to_claims,
        new_owner_can_write;
}

async fn take_over_names_the_attempt(lab: &Lab<'_>) -> Verdict {
    let old = lab.abandoned().await?;
    let before = lab.record(&old.owner.key).await?;
    for request in [
        rival(&old)?,
        lab.heir(&old, 0)?,
        lab.heir(&old, 2)?,
        lab.heir(&old, u32::MAX)?,
    ] {
        let claim = lab.store.claim(&request).await?;
        let what = format!(
            "taking over {:?} when attempt 1 is abandoned",
            request.take_over
        );
        must_be!(&what, claim, Claim::Abandoned { attempt: 1, .. });
        unchanged(&what, &before, lab.store.get(&old.owner.key).await?)?;
    }
    let claim = lab.store.claim(&lab.heir(&old, 1)?).await?;
    must_be!(
        "taking over attempt 1",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    let claim = lab.store.claim(&lab.heir(&old, 1)?).await?;
    must_be!(
        "taking over attempt 1 a second time",
        claim,
        Claim::InFlight { .. }
    );
    Ok(())
}

async fn take_over_counts_and_the_age_goes_on(lab: &Lab<'_>) -> Verdict {
    let watch = lab.stopwatch();
    let first = lab.abandoned().await?;
    let second = CaseRequest {
        lease: lab.lease(),
        ..lab.heir(&first, 1)?
    };
    let claim = lab.store.claim(&second).await?;
    let (least, most) = (lab.lease(), watch.elapsed() + lab.tolerance());
    must_be!(
        "taking over attempt 1", claim,
        Claim::Acquired(Acquired { attempt: 2, age }) if age >= least && age <= most
    );
    lab.end_leases().await;
    let late = lab.store.claim(&lab.heir(&first, 1)?).await?;
    must_be!(
        "taking over attempt 1 when 2 is abandoned",
        late,
        Claim::Abandoned { attempt: 2, .. }
    );
    let claim = lab.store.claim(&lab.heir(&first, 2)?).await?;
    let (least, most) = (lab.lease() * 2, watch.elapsed() + lab.tolerance());
    must_be!(
        "taking over attempt 2", claim,
        Claim::Acquired(Acquired { attempt: 3, age }) if age >= least && age <= most
    );
    let record = lab.record(&first.owner.key).await?;
    must_be!("the attempt of the record", record.attempt, 3);
    must_be!("the age of the record", record.age, age if age >= least);
    Ok(())
}

async fn take_over_is_idempotent_per_token(lab: &Lab<'_>) -> Verdict {
    let (_, new) = lab.taken_over().await?;
    for again in [
        new,
        CaseRequest {
            take_over: None,
            ..new
        },
        heir_of_the_second(&new),
    ] {
        let claim = lab.store.claim(&again).await?;
        must_be!(
            "the new owner's token again",
            claim,
            Claim::Acquired(Acquired { attempt: 2, .. })
        );
    }
    Ok(())
}

fn heir_of_the_second(new: &CaseRequest) -> CaseRequest {
    CaseRequest {
        take_over: Some(2),
        ..*new
    }
}

async fn live_lease_is_not_taken_over(lab: &Lab<'_>) -> Verdict {
    let request = lab.brief_request()?;
    let watch = lab.stopwatch();
    lab.claimed(request).await?;
    lab.advance(lab.lease() / 2).await;
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    watch.must_be_within(lab.lease())?;
    let most = lab.lease() / 2;
    must_be!(
        "taking over in the middle of the lease", claim,
        Claim::InFlight { lease_left } if !lease_left.is_zero() && lease_left <= most
    );
    lab.completed(&request.owner).await?;
    Ok(())
}

async fn take_over_begins_a_new_life(lab: &Lab<'_>) -> Verdict {
    let request = lab.mortal_request()?;
    let watch = lab.stopwatch();
    lab.claimed(request).await?;
    lab.end_leases().await;
    let claim = lab.store.claim(&lab.heir(&request, 1)?).await?;
    watch.must_be_within(lab.ttl())?;
    must_be!(
        "taking over attempt 1",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    lab.end_lives().await;
    let record = lab.record(&request.owner.key).await?;
    let what = "the second attempt, after the first one's life and within its own lease";
    must_be!(what, record.state, RecordState::Running { .. });
    let life = life(&lab.heir(&request, 1)?);
    must_be!("its life", record.expires_in, left if left > life / 2 && left <= life);
    Ok(())
}

/// Who takes it over, or completes it, does not rename it. A name can be long, and have any letters.
async fn first_claim_names_the_operation(lab: &Lab<'_>) -> Verdict {
    let long = "größe-".repeat(16);
    for (operation, label) in [
        ("", None),
        ("POST /payments/{}", Some("order 4711")),
        (
            "'; \"\\ %_ \u{1f4b6}\r\n\t",
            Some("'; \"\\ %_ \u{1f4b6}\r\n\t "),
        ),
        (&long, long.get(..64)),
    ] {
        let names = (operation, label);
        let request = ClaimRequest {
            operation,
            label,
            ..lab.brief_request()?
        };
        lab.store.claim(&request).await?;
        must_be_named(lab, &request.owner.key, names).await?;
        lab.store
            .claim(&ClaimRequest {
                operation: "another",
                label: Some("another"),
                ..request
            })
            .await?;
        must_be_named(lab, &request.owner.key, names).await?;
        lab.abandon(&request.owner).await?;
        must_be_named(lab, &request.owner.key, names).await?;
        let heir = ClaimRequest {
            operation: "another",
            label: Some("another"),
            take_over: Some(1),
            ..rival(&CaseRequest {
                operation: "",
                label: None,
                progress: &[],
                ..request
            })?
        };
        let claim = lab.store.claim(&heir).await?;
        must_be!(
            "taking over attempt 1",
            claim,
            Claim::Acquired(Acquired { attempt: 2, .. })
        );
        must_be_named(lab, &request.owner.key, names).await?;
        lab.completed(&heir.owner).await?;
        must_be_named(lab, &request.owner.key, names).await?;
    }
    Ok(())
}

async fn must_be_named(lab: &Lab<'_>, key: &RecordKey, names: (&str, Option<&str>)) -> Verdict {
    let record = lab.record(key).await?;
    let name = (&*record.operation, record.label.as_deref());
    if name == names {
        return Ok(());
    }
    let expected = format!("{names:?}");
    Err(Failure::unexpected(
        "the operation and the label of a record",
        &expected,
        &name,
    ))
}

async fn taken_over_owner_can_write_no_more(lab: &Lab<'_>) -> Verdict {
    let (old, new) = lab.taken_over().await?;
    let key = old.owner.key;
    let running = lab.record(&key).await?;
    stale_writes_are_lost(lab, &old).await?;
    unchanged(
        "writes of an owner that was taken over",
        &running,
        lab.store.get(&key).await?,
    )?;
    lab.completed(&new.owner).await?;
    let completed = lab.record(&key).await?;
    stale_writes_are_lost(lab, &old).await?;
    unchanged(
        "writes after the new owner's",
        &completed,
        lab.store.get(&key).await?,
    )
}

async fn stale_writes_are_lost(lab: &Lab<'_>, old: &CaseRequest) -> Verdict {
    let completion = lab.complete(&old.owner, &answer("too late")).await?;
    must_be!(
        "completing what was taken over",
        completion,
        Completion::Lost
    );
    let release = lab.release(&old.owner).await?;
    must_be!("releasing what was taken over", release, Release::Lost);
    let renewed = lab
        .renew(Renewal {
            lease: lab.lasting() * 2,
            ..renewal(old)
        })
        .await?;
    must_be!("renewing what was taken over", renewed, Renewed::Lost);
    let abandoned = lab.abandon(&old.owner).await?;
    must_be!("abandoning what was taken over", abandoned, Release::Lost);
    Ok(())
}

async fn taken_over_token_is_a_stranger_to_claims(lab: &Lab<'_>) -> Verdict {
    let first = lab.abandoned().await?;
    let second = CaseRequest {
        lease: lab.lease() * 2,
        ..lab.heir(&first, 1)?
    };
    let watch = lab.stopwatch();
    let claim = lab.store.claim(&second).await?;
    must_be!(
        "taking over attempt 1",
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    );
    let claim = lab.store.claim(&first).await?;
    watch.must_be_within(second.lease)?;
    must_be!(
        "the old token while the new one runs",
        claim,
        Claim::InFlight { .. }
    );
    lab.advance(second.lease + lab.tolerance()).await;
    let claim = lab.store.claim(&first).await?;
    must_be!(
        "the old token after the new one's lease",
        claim,
        Claim::Abandoned { attempt: 2, .. }
    );
    Ok(())
}

async fn new_owner_can_write(lab: &Lab<'_>) -> Verdict {
    let (_, new) = lab.taken_over().await?;
    let renewed = lab.renew(renewal(&new)).await?;
    must_be!("renewing what one took over", renewed, Renewed::Renewed);
    let release = lab.release(&new.owner).await?;
    must_be!("releasing what one took over", release, Release::Released);
    let claim = lab.store.claim(&rival(&new)?).await?;
    must_be!(
        "claiming it after that",
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    );
    Ok(())
}
