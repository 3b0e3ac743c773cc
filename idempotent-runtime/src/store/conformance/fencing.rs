//! Fencing: an attempt that does not hold the claim writes nothing.

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, other_request, renewal, rival, stranger};
use super::verdict::{Verdict, must_be, unchanged};
use crate::record::{Owner, Token};
use crate::store::{Acquired, Claim, Completion, Release, Renewal, Renewed};

cases! {
    Fencing:
        only_the_owner_completes,
        only_the_owner_releases,
        only_the_owner_renews,
        only_the_owner_abandons,
        absent_record_takes_no_writes,
        completed_record_takes_no_writes,
        released_key_is_free,
        tokens_one_bit_apart_are_strangers;
}

async fn only_the_owner_completes(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let (key, other) = (request.owner.key, stranger(&request.owner)?);
    let running = lab.record(&key).await?;
    let completion = lab.complete(&other, &answer("a stranger's")).await?;
    must_be!("completing another's claim", completion, Completion::Lost);
    unchanged(
        "completing another's claim",
        &running,
        lab.store.get(&key).await?,
    )?;
    lab.completed(&request.owner).await?;
    let completed = lab.record(&key).await?;
    let completion = lab.complete(&other, &answer("a stranger's")).await?;
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
    let release = lab.release(&stranger(&request.owner)?).await?;
    must_be!("releasing another's claim", release, Release::Lost);
    unchanged(
        "releasing another's claim",
        &running,
        lab.store.get(&key).await?,
    )?;
    let release = lab.release(&request.owner).await?;
    must_be!("releasing an own claim", release, Release::Released);
    Ok(())
}

async fn only_the_owner_renews(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let running = lab.record(&key).await?;
    let renewed = lab.renew(longer(&rival(&request)?)).await?;
    must_be!("renewing another's claim", renewed, Renewed::Lost);
    unchanged(
        "renewing another's claim",
        &running,
        lab.store.get(&key).await?,
    )
}

async fn only_the_owner_abandons(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let key = request.owner.key;
    let running = lab.record(&key).await?;
    let what = "abandoning another's claim";
    let abandoned = lab.abandon(&stranger(&request.owner)?).await?;
    must_be!(what, abandoned, Release::Lost);
    unchanged(what, &running, lab.store.get(&key).await?)?;
    lab.completed(&request.owner).await?;
    Ok(())
}

/// A renewal that would show in the record.
fn longer(request: &CaseRequest) -> Renewal {
    Renewal {
        lease: request.lease * 2,
        ..renewal(request)
    }
}

async fn absent_record_takes_no_writes(lab: &Lab<'_>) -> Verdict {
    let request = lab.request()?;
    let owner = request.owner;
    let completion = lab.complete(&owner, &answer("of nothing")).await?;
    must_be!("completing an absent key", completion, Completion::Lost);
    let release = lab.release(&owner).await?;
    must_be!("releasing an absent key", release, Release::Lost);
    let renewed = lab.renew(renewal(&request)).await?;
    must_be!("renewing an absent key", renewed, Renewed::Lost);
    let abandoned = lab.abandon(&owner).await?;
    must_be!("abandoning an absent key", abandoned, Release::Lost);
    must_be!(
        "reading it after that",
        lab.store.get(&owner.key).await?,
        None
    );
    Ok(())
}

async fn completed_record_takes_no_writes(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let owner = request.owner;
    lab.completed(&owner).await?;
    let before = lab.record(&owner.key).await?;
    let release = lab.release(&owner).await?;
    must_be!("releasing what one completed", release, Release::Lost);
    let renewed = lab.renew(longer(&request)).await?;
    must_be!("renewing what one completed", renewed, Renewed::Lost);
    let abandoned = lab.abandon(&owner).await?;
    must_be!("abandoning what one completed", abandoned, Release::Lost);
    unchanged(
        "releasing, renewing and abandoning it",
        &before,
        lab.store.get(&owner.key).await?,
    )
}

async fn released_key_is_free(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let owner = request.owner;
    let release = lab.release(&owner).await?;
    must_be!("releasing an own claim", release, Release::Released);
    must_be!(
        "reading it after that",
        lab.store.get(&owner.key).await?,
        None
    );
    must_be!(
        "releasing it again",
        lab.release(&owner).await?,
        Release::Lost
    );
    let completion = lab.complete(&owner, &answer("released")).await?;
    must_be!("completing what one released", completion, Completion::Lost);
    let next = other_request(&rival(&request)?);
    let claim = lab.store.claim(&next).await?;
    must_be!(
        "another request for a released key",
        claim,
        Claim::Acquired(Acquired { attempt: 1, .. })
    );
    let before = lab.record(&owner.key).await?;
    let release = lab.release(&owner).await?;
    must_be!(
        "releasing what another has claimed since",
        release,
        Release::Lost
    );
    let renewed = lab.renew(longer(&request)).await?;
    must_be!(
        "renewing what another has claimed since",
        renewed,
        Renewed::Lost
    );
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
        let claim = lab.store.claim(&CaseRequest { owner, ..request }).await?;
        must_be!(&what, claim, Claim::InFlight { .. });
        let completion = lab.complete(&owner, &answer("almost")).await?;
        must_be!(&what, completion, Completion::Lost);
        must_be!(&what, lab.release(&owner).await?, Release::Lost);
    }
    lab.completed(&request.owner).await?;
    Ok(())
}
