//! Fencing: who does not hold the claim writes nothing.

use super::case::{Failure, Verdict, cases, must_be, unchanged};
use super::lab::{Lab, answer, other_request, rival, stranger};
use crate::record::{Owner, Token};
use crate::store::{Claim, ClaimRequest, Completion, Release, Renewal};

cases! {
    Fencing:
        only_the_owner_completes,
        only_the_owner_releases,
        only_the_owner_renews,
        absent_record_takes_no_writes,
        completed_record_takes_no_writes,
        renewal_tells_the_lost_from_the_held,
        renewal_of_nothing_loses_nothing,
        released_key_is_free,
        tokens_one_bit_apart_are_strangers;
}

async fn only_the_owner_completes(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let (key, other) = (request.owner.key, stranger(&request.owner)?);
    let running = lab.record(&key).await?;
    let completion = lab.store.complete(&other, &answer("a stranger's")).await?;
    must_be!("completing another's claim", completion, Completion::Lost);
    unchanged(
        "completing another's claim",
        &running,
        lab.store.get(&key).await?,
    )?;
    lab.completed(&request.owner).await?;
    let completed = lab.record(&key).await?;
    let completion = lab.store.complete(&other, &answer("a stranger's")).await?;
    must_be!(
        "completing what another completed",
        completion,
        Completion::Lost
    );
    unchanged(
        "completing what another completed",
        &completed,
        lab.store.get(&key).await?,
    )
}

async fn only_the_owner_releases(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let running = lab.record(&key).await?;
    let release = lab.store.release(&stranger(&request.owner)?).await?;
    must_be!("releasing another's claim", release, Release::Lost);
    unchanged(
        "releasing another's claim",
        &running,
        lab.store.get(&key).await?,
    )?;
    let release = lab.store.release(&request.owner).await?;
    must_be!("releasing an own claim", release, Release::Released);
    Ok(())
}

async fn only_the_owner_renews(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let running = lab.record(&key).await?;
    let renewal = Renewal {
        owner: stranger(&request.owner)?,
        lease: request.ttl * 2,
    };
    let lost = lab.store.renew(&[renewal]).await?;
    must_be!("renewing another's claim", lost, lost if lost == [renewal.owner]);
    unchanged(
        "renewing another's claim",
        &running,
        lab.store.get(&key).await?,
    )
}

async fn absent_record_takes_no_writes(lab: &Lab<'_>) -> Verdict {
    let ClaimRequest { owner, lease, .. } = lab.request()?;
    let completion = lab.store.complete(&owner, &answer("of nothing")).await?;
    must_be!("completing an absent key", completion, Completion::Lost);
    let release = lab.store.release(&owner).await?;
    must_be!("releasing an absent key", release, Release::Lost);
    let lost = lab.store.renew(&[Renewal { owner, lease }]).await?;
    must_be!("renewing an absent key", lost, lost if lost == [owner]);
    must_be!(
        "reading it after that",
        lab.store.get(&owner.key).await?,
        None
    );
    Ok(())
}

async fn completed_record_takes_no_writes(lab: &Lab<'_>) -> Verdict {
    let ClaimRequest { owner, ttl, .. } = lab.claimed(lab.request()?).await?;
    lab.completed(&owner).await?;
    let before = lab.record(&owner.key).await?;
    let release = lab.store.release(&owner).await?;
    must_be!("releasing what one completed", release, Release::Lost);
    let lost = lab
        .store
        .renew(&[Renewal {
            owner,
            lease: ttl * 2,
        }])
        .await?;
    must_be!("renewing what one completed", lost, lost if lost == [owner]);
    unchanged(
        "releasing and renewing it",
        &before,
        lab.store.get(&owner.key).await?,
    )
}

/// Enough for a store that sends them in pieces to need several.
const RENEWALS: usize = 300;

async fn renewal_tells_the_lost_from_the_held(lab: &Lab<'_>) -> Verdict {
    let mut renewals = Vec::with_capacity(RENEWALS);
    let mut lost = Vec::new();
    for n in 0..RENEWALS {
        let ClaimRequest { owner, lease, .. } = renewable(lab, n, &mut lost).await?;
        renewals.push(Renewal { owner, lease });
    }
    let mut got = lab.store.renew(&renewals).await?;
    got.sort_by_key(|owner| owner.key);
    lost.sort_by_key(|owner| owner.key);
    if got == lost {
        return Ok(());
    }
    let what = format!("renewing {RENEWALS} claims, {} of them lost", lost.len());
    let wrong: Vec<_> = got
        .iter()
        .filter(|owner| !lost.contains(owner))
        .chain(lost.iter().filter(|owner| !got.contains(owner)))
        .collect();
    Err(Failure::unexpected(
        &what,
        "the lost ones",
        &(got.len(), "with a difference of", wrong),
    ))
}

/// The nth claim to renew: of a hundred, one is absent, one another's and one completed.
async fn renewable(
    lab: &Lab<'_>,
    n: usize,
    lost: &mut Vec<Owner>,
) -> Result<ClaimRequest, Failure> {
    let mut request = lab.request()?;
    match n % 100 {
        7 => {}
        49 => {
            lab.claimed(request).await?;
            request.owner = stranger(&request.owner)?;
        }
        93 => {
            lab.claimed(request).await?;
            lab.completed(&request.owner).await?;
        }
        _ => return lab.claimed(request).await,
    }
    lost.push(request.owner);
    Ok(request)
}

async fn renewal_of_nothing_loses_nothing(lab: &Lab<'_>) -> Verdict {
    must_be!("renewing no claims", lab.store.renew(&[]).await?, lost if lost.is_empty());
    Ok(())
}

async fn released_key_is_free(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let ClaimRequest { owner, lease, .. } = request;
    let release = lab.store.release(&owner).await?;
    must_be!("releasing an own claim", release, Release::Released);
    must_be!(
        "reading it after that",
        lab.store.get(&owner.key).await?,
        None
    );
    must_be!(
        "releasing it again",
        lab.store.release(&owner).await?,
        Release::Lost
    );
    let completion = lab.store.complete(&owner, &answer("released")).await?;
    must_be!("completing what one released", completion, Completion::Lost);
    let next = other_request(&rival(&request)?);
    let claim = lab.store.claim(&next).await?;
    must_be!(
        "another request for a released key",
        claim,
        Claim::Acquired { attempt: 1, .. }
    );
    let before = lab.record(&owner.key).await?;
    let release = lab.store.release(&owner).await?;
    must_be!(
        "releasing what another has claimed since",
        release,
        Release::Lost
    );
    let lost = lab
        .store
        .renew(&[Renewal {
            owner,
            lease: lease * 3,
        }])
        .await?;
    must_be!("renewing what another has claimed since", lost, lost if lost == [owner]);
    unchanged(
        "writes of who released it",
        &before,
        lab.store.get(&owner.key).await?,
    )
}

async fn tokens_one_bit_apart_are_strangers(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    for bit in [0, 5, 63, 64, 120, 127] {
        let token = u128::from_be_bytes(*request.owner.token.as_bytes()) ^ (1 << bit);
        let owner = Owner {
            token: Token::from_bytes(token.to_be_bytes()),
            ..request.owner
        };
        let what = format!("a token that differs in bit {bit}");
        let claim = lab.store.claim(&ClaimRequest { owner, ..request }).await?;
        must_be!(&what, claim, Claim::InFlight { .. });
        let completion = lab.store.complete(&owner, &answer("almost")).await?;
        must_be!(&what, completion, Completion::Lost);
        must_be!(&what, lab.store.release(&owner).await?, Release::Lost);
    }
    lab.completed(&request.owner).await?;
    Ok(())
}
