//! Races: many at one key, and one of them wins.
//!
//! The contenders of a race are tasks that wait for each other and then all call at once. What is
//! raced for lasts longer than any race, so that no result depends on how long it took.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, answer, renewal, rival, stranger};
use super::verdict::{Failure, Verdict, must_be};
use crate::record::{Owner, RecordState, StoredResponse};
use crate::store::{
    Acquired, Claim, Completion, Release, Renewed, Store, StoreError, StoreErrorKind,
};

cases! {
    AtomicClaim:
        one_of_sixteen_claims_is_acquired,
        all_claims_of_one_token_are_acquired,
        one_of_sixteen_take_overs_is_acquired;
    Fencing:
        strangers_lose_every_race,
        owner_completes_or_releases_and_never_both,
        renewal_never_undoes_an_abandoning;
}

const CONTENDERS: usize = 16;
const KEYS: usize = 300;

/// A TTL that lasts.
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

/// Runs all of them at once; the results are in their order.
pub(super) async fn race<T, F>(contenders: Vec<F>) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(contenders.len()));
    let tasks: Vec<_> = contenders
        .into_iter()
        .map(|contender| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                contender.await
            })
        })
        .collect();
    // All of them, also after one that failed: the case removes its keys only when no task writes.
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await);
    }
    results.into_iter().map(|result| Ok(result??)).collect()
}

/// A call that is made again while another contender's lock is in the way. No case runs for ever.
pub(super) async fn insist<T, F>(call: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Err(error) if error.kind() == StoreErrorKind::Busy => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            answered => return answered,
        }
    }
}

async fn claim(store: Arc<dyn Store>, request: CaseRequest) -> Result<Claim, StoreError> {
    insist(|| store.claim(&request)).await
}

/// Exactly one has acquired this attempt, and the others see it in flight.
fn one_acquired(claims: &[Claim], number: u32) -> Verdict {
    let acquired = |claim: &&Claim| matches!(claim, Claim::Acquired(Acquired { attempt, .. }) if *attempt == number);
    let winners = claims.iter().filter(acquired).count();
    let losers = claims
        .iter()
        .filter(|claim| matches!(claim, Claim::InFlight { .. }))
        .count();
    must_be!(
        &format!("{CONTENDERS} at once: {claims:?}"), (winners, losers),
        (1, losers) if losers == CONTENDERS - 1
    );
    Ok(())
}

async fn one_of_sixteen_claims_is_acquired(lab: &Lab<'_>) -> Verdict {
    for _ in 0..KEYS {
        let request = lab.request()?;
        let mut contenders = Vec::new();
        for _ in 0..CONTENDERS {
            contenders.push(claim(lab.store.clone(), rival(&request)?));
        }
        one_acquired(&race(contenders).await?, 1)?;
    }
    Ok(())
}

async fn all_claims_of_one_token_are_acquired(lab: &Lab<'_>) -> Verdict {
    for _ in 0..KEYS / 3 {
        let request = lab.request()?;
        let contenders = (0..CONTENDERS)
            .map(|_| claim(lab.store.clone(), request))
            .collect();
        for claim in race(contenders).await? {
            must_be!(
                "16 claims of one token",
                claim,
                Claim::Acquired(Acquired { attempt: 1, .. })
            );
        }
        lab.completed(&request.owner).await?;
    }
    Ok(())
}

async fn one_of_sixteen_take_overs_is_acquired(lab: &Lab<'_>) -> Verdict {
    let mut abandoned = Vec::new();
    for _ in 0..KEYS / 3 {
        abandoned.push(lab.claimed(lab.brief_request()?).await?);
    }
    lab.end_leases().await;
    for old in &abandoned {
        lab.must_be_abandoned(old).await?;
        let mut contenders = Vec::new();
        for _ in 0..CONTENDERS {
            contenders.push(claim(lab.store.clone(), lab.heir(old, 1)?));
        }
        one_acquired(&race(contenders).await?, 2)?;
    }
    Ok(())
}

/// One contender for the end of a claim.
#[derive(Clone, Copy)]
enum End {
    Complete(Owner),
    Release(Owner),
}

async fn released(store: &dyn Store, owner: Owner) -> Result<Release, StoreError> {
    insist(|| async {
        let mut results = store.release(&[owner]).await;
        // Without a result, nothing was released.
        results.pop().unwrap_or(Ok(Release::Lost))
    })
    .await
}

#[derive(Debug, PartialEq)]
enum Ended {
    Completed(Completion),
    Released(Release),
}

async fn end(
    store: Arc<dyn Store>,
    end: End,
    response: Arc<StoredResponse>,
) -> Result<Ended, StoreError> {
    Ok(match end {
        End::Complete(owner) => {
            Ended::Completed(insist(|| store.complete(&owner, &response, HOUR)).await?)
        }
        End::Release(owner) => Ended::Released(released(&*store, owner).await?),
    })
}

async fn race_to_end(lab: &Lab<'_>, ends: &[End]) -> Result<Vec<Ended>, Failure> {
    let response = answer("the first answer");
    race(
        ends.iter()
            .map(|how| end(lab.store.clone(), *how, response.clone()))
            .collect(),
    )
    .await
}

/// What was renewed before is abandoned, and what is abandoned is not renewed.
async fn renewal_never_undoes_an_abandoning(lab: &Lab<'_>) -> Verdict {
    for round in 0..KEYS / 3 {
        let request = lab.claimed(lab.request()?).await?;
        let contenders = (0..CONTENDERS)
            .map(|n| renew_or_abandon(lab.store.clone(), request, n == round % CONTENDERS));
        let abandoned = race(contenders.collect()).await?;
        let abandoned = abandoned.into_iter().filter(|abandoned| *abandoned).count();
        must_be!("abandoning among renewals", abandoned, 1);
        let state = lab.record(&request.owner.key).await?.state;
        must_be!("the record after that", state, RecordState::Abandoned);
        let renewed = lab.renew(renewal(&request)).await?;
        must_be!("renewing it after that", renewed, Renewed::Lost);
    }
    Ok(())
}

/// Whether it was abandoned by this call.
async fn renew_or_abandon(
    store: Arc<dyn Store>,
    request: CaseRequest,
    abandons: bool,
) -> Result<bool, StoreError> {
    insist(|| async {
        if abandons {
            let abandoned = store.abandon(&[request.owner]).await.pop();
            let abandoned = abandoned.unwrap_or(Ok(Release::Lost))?;
            return Ok(abandoned == Release::Released);
        }
        let renewed = store.renew(&[renewal(&request)]).await.pop();
        renewed.unwrap_or(Ok(Renewed::Lost)).map(|_| false)
    })
    .await
}

async fn strangers_lose_every_race(lab: &Lab<'_>) -> Verdict {
    for _ in 0..KEYS / 3 {
        let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
        let mut ends = Vec::new();
        for _ in 0..CONTENDERS / 4 {
            ends.push(End::Release(stranger(&owner)?));
            ends.push(End::Complete(stranger(&owner)?));
            ends.push(End::Complete(owner));
            ends.push(End::Complete(stranger(&owner)?));
        }
        let ended = race_to_end(lab, &ends).await?;
        let count = |what: Ended| ended.iter().filter(|ended| **ended == what).count();
        let stored = count(Ended::Completed(Completion::Stored));
        let mine = count(Ended::Completed(Completion::AlreadyCompleted));
        let what = format!("4 completions of the owner among strangers' writes: {ended:?}");
        must_be!(&what, (stored, mine), (1, 3));
        must_be!(&what, count(Ended::Released(Release::Released)), 0);
        must_be!(
            "the record",
            lab.record(&owner.key).await?.state,
            RecordState::Completed(_)
        );
    }
    Ok(())
}

async fn owner_completes_or_releases_and_never_both(lab: &Lab<'_>) -> Verdict {
    for round in 0..KEYS / 3 {
        let CaseRequest { owner, .. } = lab.claimed(lab.request()?).await?;
        let mut ends = [End::Complete(owner), End::Release(owner)].repeat(CONTENDERS / 2);
        ends.rotate_left(round % 2);
        let ended = race_to_end(lab, &ends).await?;
        let count = |what: Ended| ended.iter().filter(|ended| **ended == what).count();
        let stored = count(Ended::Completed(Completion::Stored));
        let released = count(Ended::Released(Release::Released));
        let what = format!("completions and releases of one owner at once: {ended:?}");
        must_be!(&what, (stored, released), (1, 0) | (0, 1));
        let is_there = lab.store.get(&owner.key).await?.is_some();
        must_be!("the record after that", is_there, there if there == (stored == 1));
    }
    Ok(())
}
