//! Batches: renewals, releases and abandonings are of different requests, and share no fate.

use super::case::{Failure, Verdict, cases};
use super::lab::{Lab, renewal, stranger};
use crate::record::Owner;
use crate::store::{Release, Renewal, Renewed, StoreError};

cases! {
    SharedFate:
        renewals_have_results_of_their_own,
        releases_have_results_of_their_own,
        abandonings_have_results_of_their_own,
        empty_batch_has_no_results;
}

/// Enough for a store that sends them in pieces to need several.
const BATCH: usize = 300;

/// Who takes part in a batch, and whether the claim is his.
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
    expected: Vec<T>,
) -> Verdict {
    let got = got.into_iter().collect::<Result<Vec<_>, _>>()?;
    if got.len() != expected.len() {
        let expected = format!("{} results", expected.len());
        return Err(Failure::unexpected(what, &expected, &got.len()));
    }
    for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
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
    let expected = batch.iter().map(expected).collect();
    let got = lab.store.renew(&renewals).await;
    each_has_its_own("300 renewals", got, expected)
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
    each_has_its_own("300 releases", got, expected)
}

async fn abandonings_have_results_of_their_own(lab: &Lab<'_>) -> Verdict {
    let (owners, expected) = ended(&batch(lab).await?);
    let got = lab.store.abandon(&owners).await;
    each_has_its_own("300 claims to abandon", got, expected)
}

/// And ends nobody's claim.
async fn empty_batch_has_no_results(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    each_has_its_own("no renewals", lab.store.renew(&[]).await, vec![])?;
    each_has_its_own("no releases", lab.store.release(&[]).await, vec![])?;
    each_has_its_own("no claims to abandon", lab.store.abandon(&[]).await, vec![])?;
    lab.completed(&request.owner).await?;
    Ok(())
}
