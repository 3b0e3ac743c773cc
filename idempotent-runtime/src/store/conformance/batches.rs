//! Batches: renewals, releases and abandonings are of different requests, and share no fate.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::request::{renewal, rival, stranger};
use super::verdict::{Failure, Verdict, must_be};
use crate::record::{Owner, RecordState};
use crate::store::{Release, Renewal, Renewed, StoreError};

cases! {
    SharedFate:
        renewals_have_results_of_their_own,
        releases_have_results_of_their_own,
        abandonings_have_results_of_their_own,
        each_renewal_has_its_own_length,
        tokens_of_one_key_have_results_of_their_own,
        one_owner_twice_is_no_failure,
        large_batch_has_all_its_results,
        empty_batch_has_no_results;
}

/// Enough for a store that sends them in pieces to need several.
const BATCH: usize = 300;

/// The members of a batch, and whether each holds its claim.
async fn batch(lab: &Lab<'_>) -> Result<Vec<(Renewal, bool)>, Failure> {
    let mut batch = Vec::with_capacity(BATCH);
    for n in 0..BATCH {
        batch.push(member(lab, n).await?);
    }
    Ok(batch)
}

/// The nth of a batch: of a hundred, one is absent, one another's and one completed.
async fn member(lab: &Lab<'_>, n: usize) -> Result<(Renewal, bool), Failure> {
    let mut request = lab.request()?;
    let is_held = match n % 100 {
        7 => false,
        49 => {
            lab.claimed(request).await?;
            request.owner = stranger(&request.owner)?;
            false
        }
        93 => {
            lab.claimed(request).await?;
            lab.completed(&request.owner).await?;
            false
        }
        _ => {
            lab.claimed(request).await?;
            true
        }
    };
    Ok((renewal(&request), is_held))
}

/// Each result is as expected, in the order of the batch.
fn each_has_its_own<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: Vec<Result<T, StoreError>>,
    expected: &[T],
) -> Verdict {
    let got = got.into_iter().collect::<Result<Vec<_>, _>>()?;
    if got.len() != expected.len() {
        let expected = format!("{} results", expected.len());
        return Err(Failure::unexpected(what, &expected, &got.len()));
    }
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        if got != expected {
            let what = format!("number {n} of {what}");
            return Err(Failure::unexpected(&what, &format!("{expected:?}"), got));
        }
    }
    Ok(())
}

async fn renewals_have_results_of_their_own(lab: &Lab<'_>) -> Verdict {
    let batch = batch(lab).await?;
    let renewals: Vec<_> = batch.iter().map(|(renewal, _)| *renewal).collect();
    let expected = |(_, is_held): &(_, bool)| match is_held {
        true => Renewed::Renewed,
        false => Renewed::Lost,
    };
    let expected: Vec<_> = batch.iter().map(expected).collect();
    let got = lab.store.renew(&renewals).await;
    each_has_its_own("300 renewals", got, &expected)
}

fn ended(batch: &[(Renewal, bool)]) -> (Vec<Owner>, Vec<Release>) {
    let expected = |is_held: &bool| match is_held {
        true => Release::Released,
        false => Release::Lost,
    };
    let ended = batch
        .iter()
        .map(|(renewal, is_held)| (renewal.owner, expected(is_held)));
    ended.unzip()
}

async fn releases_have_results_of_their_own(lab: &Lab<'_>) -> Verdict {
    let (owners, expected) = ended(&batch(lab).await?);
    let got = lab.store.release(&owners).await;
    each_has_its_own("300 releases", got, &expected)
}

async fn abandonings_have_results_of_their_own(lab: &Lab<'_>) -> Verdict {
    let (owners, expected) = ended(&batch(lab).await?);
    let got = lab.store.abandon(&owners).await;
    each_has_its_own("300 claims to abandon", got, &expected)
}

async fn each_renewal_has_its_own_length(lab: &Lab<'_>) -> Verdict {
    let lengths: Vec<_> = (1..=20).map(|n| lab.lasting() * n).collect();
    let mut renewals = Vec::new();
    for (lease, retention) in lengths.iter().zip(lengths.iter().rev()) {
        renewals.push(Renewal {
            lease: *lease,
            retention: *retention * 2,
            ..renewal(&lab.claimed(lab.request()?).await?)
        });
    }
    let expected = vec![Renewed::Renewed; renewals.len()];
    each_has_its_own("20 renewals", lab.store.renew(&renewals).await, &expected)?;
    // Half of the shortest is for a slow machine.
    let is_left = |left: Duration, of: Duration| left <= of && left + lab.lasting() / 2 > of;
    for Renewal {
        owner,
        lease,
        retention,
    } in renewals
    {
        let record = lab.record(&owner.key).await?;
        must_be!(
            "its lease", record.state,
            RecordState::Running { lease_left } if is_left(lease_left, lease)
        );
        let life = lease + retention;
        must_be!("its life", record.expires_in, left if is_left(left, life));
    }
    Ok(())
}

async fn tokens_of_one_key_have_results_of_their_own(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let (own, other) = (renewal(&request), renewal(&rival(&request)?));
    let what = "the tokens of a stranger, the owner and a stranger, renewing";
    let got = lab.store.renew(&[other, own, other]).await;
    each_has_its_own(what, got, &[Renewed::Lost, Renewed::Renewed, Renewed::Lost])?;

    let owners = [other, own, other].map(|renewal| renewal.owner);
    let expected = [Release::Lost, Release::Released, Release::Lost];
    let what = "the tokens of a stranger, the owner and a stranger, abandoning";
    each_has_its_own(what, lab.store.abandon(&owners).await, &expected)?;

    let request = lab.claimed(lab.request()?).await?;
    let owners = [
        stranger(&request.owner)?,
        request.owner,
        stranger(&request.owner)?,
    ];
    let what = "the tokens of a stranger, the owner and a stranger, releasing";
    each_has_its_own(what, lab.store.release(&owners).await, &expected)
}

/// The second one may find that the first has done it.
async fn one_owner_twice_is_no_failure(lab: &Lab<'_>) -> Verdict {
    let one = renewal(&lab.claimed(lab.request()?).await?);
    let other = renewal(&lab.claimed(lab.request()?).await?);
    let got = lab.store.renew(&[one, other, one]).await;
    each_has_its_own(
        "a batch with one renewal twice",
        got,
        &[Renewed::Renewed; 3],
    )?;

    let owners = [one.owner, other.owner, one.owner];
    twice(
        "a batch with one abandoned claim twice",
        lab.store.abandon(&owners).await,
    )?;
    let state = lab.record(&one.owner.key).await?.state;
    must_be!("reading it after that", state, RecordState::Abandoned);

    let mut owners = Vec::new();
    for _ in 0..2 {
        owners.push(lab.claimed(lab.request()?).await?.owner);
    }
    owners.extend(owners.first().copied());
    twice(
        "a batch with one release twice",
        lab.store.release(&owners).await,
    )?;
    let is_there = lab.store.get(&one.owner.key).await?.is_some();
    must_be!("reading another one after that", is_there, true);
    Ok(())
}

fn twice(what: &str, got: Vec<Result<Release, StoreError>>) -> Verdict {
    let got = got.into_iter().collect::<Result<Vec<_>, _>>()?;
    must_be!(
        what,
        got.as_slice(),
        [Release::Released, Release::Released, _] | [_, Release::Released, Release::Released]
    );
    Ok(())
}

/// More than one statement has parameters for, and as many as the engine sends or more.
const LARGE: usize = 2500;

/// Of a large batch one in this many is held.
const HELD: usize = 50;

async fn large_batch_has_all_its_results(lab: &Lab<'_>) -> Verdict {
    let mut batch = Vec::with_capacity(LARGE);
    let absent = lab.request()?;
    for n in 0..LARGE {
        let is_held = n % HELD == HELD - 1;
        if is_held {
            batch.push((renewal(&lab.claimed(lab.request()?).await?), true));
        } else {
            let owner = lab.absent_owner()?;
            batch.push((
                Renewal {
                    owner,
                    ..renewal(&absent)
                },
                false,
            ));
        }
    }
    let renewals: Vec<_> = batch.iter().map(|(renewal, _)| *renewal).collect();
    let renewed = |(_, is_held): &(_, bool)| match is_held {
        true => Renewed::Renewed,
        false => Renewed::Lost,
    };
    let expected: Vec<_> = batch.iter().map(renewed).collect();
    let got = lab.store.renew(&renewals).await;
    each_has_its_own("2,500 renewals", got, &expected)?;

    // Each half of those that are held ends in another way.
    let (to_abandon, to_release) = batch.split_at(LARGE / 2);
    let mut abandoned = ended(to_abandon);
    let mut released = ended(to_release);
    for (batch, other) in [(&mut abandoned, to_release), (&mut released, to_abandon)] {
        for (renewal, _) in other.iter().filter(|(_, is_held)| !is_held) {
            batch.0.push(renewal.owner);
            batch.1.push(Release::Lost);
        }
    }
    let got = lab.store.abandon(&abandoned.0).await;
    each_has_its_own("2,500 claims to abandon", got, &abandoned.1)?;
    let got = lab.store.release(&released.0).await;
    each_has_its_own("2,500 releases", got, &released.1)
}

/// And ends no claim.
async fn empty_batch_has_no_results(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    each_has_its_own("no renewals", lab.store.renew(&[]).await, &[])?;
    each_has_its_own("no releases", lab.store.release(&[]).await, &[])?;
    each_has_its_own("no claims to abandon", lab.store.abandon(&[]).await, &[])?;
    lab.completed(&request.owner).await?;
    Ok(())
}
