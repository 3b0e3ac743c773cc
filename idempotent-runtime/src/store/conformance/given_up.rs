//! Calls that were given up: a future that is dropped has happened or not, and holds nothing.
//!
//! A future is dropped where the client goes away, where a timeout ends it, and where its task is
//! aborted. The cases drop calls after each of their first polls, many at a time, and then everything
//! must work: on the same keys, and on more of them at once than a store has connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::case::cases;
use super::lab::Lab;
use super::races::{HOUR, insist, race};
use super::request::{CaseRequest, answer, renewal, rival};
use super::verdict::{Failure, Verdict, must_be};
use crate::record::{Owner, RecordState};
use crate::store::{Acquired, Claim, Completion, Progress, Release, Renewed, Store, StoreError};

cases! {
    GivenUp:
        claim_that_was_given_up_holds_nothing,
        take_over_that_was_given_up_holds_nothing,
        renewal_that_was_given_up_holds_nothing,
        progress_that_was_given_up_holds_nothing,
        completion_that_was_given_up_holds_nothing,
        release_that_was_given_up_holds_nothing,
        abandoning_that_was_given_up_holds_nothing,
        reads_and_removals_that_were_given_up_hold_nothing;
}

/// How many calls are given up at once, and how many are made at once after that.
const AT_ONCE: usize = 32;

/// How often: four times as many calls as that are more than the connections of any store.
const ROUNDS: usize = 4;

/// After this many polls at most: a call over a network takes a few.
const POLLS: usize = 8;

/// How long it may take until everything works: long, because it is waited for in full only when
/// something is held.
const PATIENCE: Duration = Duration::from_secs(30);

type PolledCall = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that is dropped after some polls, if it has not ended by then.
struct GivesUp {
    call: Option<PolledCall>,
    polls: usize,
}

impl Future for GivesUp {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let is_over = match &mut self.call {
            Some(call) => call.as_mut().poll(context).is_ready(),
            None => true,
        };
        self.polls = self.polls.saturating_sub(1);
        if is_over || self.polls == 0 {
            // Dropped here, on its own task, as by a timeout.
            self.call = None;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

/// Makes this call of each, all at once, and gives each up after another number of polls, several times.
async fn give_up<F>(
    lab: &Lab<'_>,
    requests: &[CaseRequest],
    call: impl Fn(Arc<dyn Store>, CaseRequest) -> F,
) -> Verdict
where
    F: Future<Output = ()> + Send + 'static,
{
    for _ in 0..ROUNDS {
        let given_up = requests.iter().enumerate().map(|(n, request)| GivesUp {
            call: Some(Box::pin(call(lab.store.clone(), *request))),
            polls: 1 + n % POLLS,
        });
        in_time("calls that are given up", race(given_up.collect())).await?;
    }
    Ok(())
}

/// Makes this call of each, all at once, and to its end.
async fn each<T, F>(
    lab: &Lab<'_>,
    what: &str,
    requests: &[CaseRequest],
    call: impl Fn(Arc<dyn Store>, CaseRequest) -> F,
) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let calls = requests
        .iter()
        .map(|request| call(lab.store.clone(), *request));
    in_time(what, race(calls.collect())).await
}

async fn in_time<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let late = |_| Failure::unexpected(what, "an answer", &"nothing for 30 s");
    Ok(timeout(PATIENCE, work).await.map_err(late)??)
}

/// The results of a batch, or the first error of one.
async fn all_of<T>(
    batch: impl Future<Output = Vec<Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    batch.await.into_iter().collect()
}

async fn claimed(lab: &Lab<'_>) -> Result<Vec<CaseRequest>, Failure> {
    let mut requests = Vec::new();
    for _ in 0..AT_ONCE {
        requests.push(lab.claimed(lab.request()?).await?);
    }
    Ok(requests)
}

async fn claim(store: Arc<dyn Store>, request: CaseRequest) -> Result<Claim, StoreError> {
    // What a server has begun may end a little later.
    insist(|| store.claim(&request)).await
}

async fn complete(store: Arc<dyn Store>, owner: Owner) -> Result<Completion, StoreError> {
    let response = answer("the first answer");
    insist(|| store.complete(&owner, &response, HOUR)).await
}

/// Everything works, of all of them at once: more than there are connections.
async fn all_can_be_completed(lab: &Lab<'_>, requests: &[CaseRequest]) -> Verdict {
    let what = "completing after calls were given up";
    let complete = |store, request: CaseRequest| complete(store, request.owner);
    for completion in each(lab, what, requests, complete).await? {
        must_be!(what, completion, Completion::Stored);
    }
    let what = "replaying after calls were given up";
    for claim in each(lab, what, requests, claim).await? {
        must_be!(what, claim, Claim::Completed(_));
    }
    let mut others = Vec::new();
    for _ in 0..AT_ONCE {
        others.push(lab.request()?);
    }
    let what = "claiming other keys after calls were given up";
    for claim in each(lab, what, &others, claim).await? {
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
    }
    Ok(())
}

async fn claim_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let mut requests = Vec::new();
    for _ in 0..AT_ONCE {
        requests.push(lab.request()?);
    }
    give_up(lab, &requests, |store, request| async move {
        drop(store.claim(&request).await);
    })
    .await?;
    let what = "the same claim, after it was given up";
    for claim in each(lab, what, &requests, claim).await? {
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
    }
    all_can_be_completed(lab, &requests).await
}

async fn take_over_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let mut heirs = Vec::new();
    for request in claimed(lab).await? {
        let abandoned = lab.abandon(&request.owner).await?;
        must_be!("abandoning an own claim", abandoned, Release::Released);
        heirs.push(lab.heir(&request, 1)?);
    }
    give_up(lab, &heirs, |store, request| async move {
        drop(store.claim(&request).await);
    })
    .await?;
    let what = "the same take-over, after it was given up";
    for claim in each(lab, what, &heirs, claim).await? {
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 2, .. }));
    }
    all_can_be_completed(lab, &heirs).await
}

async fn renewal_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    let all: Vec<_> = requests.iter().map(renewal).collect();
    give_up(lab, &requests, |store, _| {
        let all = all.clone();
        async move { drop(store.renew(&all).await) }
    })
    .await?;
    let what = "renewing all, after renewals of them were given up";
    let renew = insist(|| all_of(lab.store.renew(&all)));
    for renewed in in_time(what, renew).await? {
        must_be!(what, renewed, Renewed::Renewed);
    }
    all_can_be_completed(lab, &requests).await
}

async fn progress_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    const STEP: Bytes = Bytes::from_static(b"step 1");
    give_up(lab, &requests, |store, request| async move {
        drop(store.save_progress(&request.owner, 0, &STEP).await);
    })
    .await?;
    let what = "saving progress, after that was given up";
    let save = |store: Arc<dyn Store>, request: CaseRequest| async move {
        let step = STEP;
        insist(|| store.save_progress(&request.owner, 0, &step)).await
    };
    for saved in each(lab, what, &requests, save).await? {
        must_be!(what, saved, Progress::Saved);
    }
    for request in &requests {
        let kept = lab.record(&request.owner.key).await?.progress;
        must_be!("the progress after that", kept, kept if kept == STEP);
    }
    all_can_be_completed(lab, &requests).await
}

async fn completion_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    give_up(lab, &requests, |store, request| async move {
        drop(complete(store, request.owner).await);
    })
    .await?;
    let what = "completing, after that was given up";
    let again = |store, request: CaseRequest| complete(store, request.owner);
    for completion in each(lab, what, &requests, again).await? {
        must_be!(
            what,
            completion,
            Completion::Stored | Completion::AlreadyCompleted
        );
    }
    let what = "replaying what was completed so";
    for claim in each(lab, what, &requests, claim).await? {
        must_be!(what, claim, Claim::Completed(got) if got == answer("the first answer"));
    }
    all_can_be_completed(lab, &claimed(lab).await?).await
}

async fn release_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    give_up(lab, &requests, |store, request| async move {
        drop(store.release(&[request.owner]).await);
    })
    .await?;
    let what = "releasing, after that was given up";
    let owners: Vec<_> = requests.iter().map(|request| request.owner).collect();
    let release = insist(|| all_of(lab.store.release(&owners)));
    in_time(what, release).await?;
    // What still arrives is of another token.
    let mut others = Vec::new();
    for request in &requests {
        others.push(rival(request)?);
    }
    let what = "claiming what was released so";
    for claim in each(lab, what, &others, claim).await? {
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 1, .. }));
    }
    all_can_be_completed(lab, &others).await
}

async fn abandoning_that_was_given_up_holds_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    give_up(lab, &requests, |store, request| async move {
        drop(store.abandon(&[request.owner]).await);
    })
    .await?;
    let what = "abandoning, after that was given up";
    let owners: Vec<_> = requests.iter().map(|request| request.owner).collect();
    let abandon = insist(|| all_of(lab.store.abandon(&owners)));
    in_time(what, abandon).await?;
    let mut heirs = Vec::new();
    for request in &requests {
        let state = lab.record(&request.owner.key).await?.state;
        must_be!("reading it after that", state, RecordState::Abandoned);
        heirs.push(lab.heir(request, 1)?);
    }
    let what = "taking over what was abandoned so";
    for claim in each(lab, what, &heirs, claim).await? {
        must_be!(what, claim, Claim::Acquired(Acquired { attempt: 2, .. }));
    }
    all_can_be_completed(lab, &heirs).await
}

async fn reads_and_removals_that_were_given_up_hold_nothing(lab: &Lab<'_>) -> Verdict {
    let requests = claimed(lab).await?;
    let to_remove = claimed(lab).await?;
    give_up(lab, &requests, |store, request| async move {
        drop(store.get(&request.owner.key).await);
    })
    .await?;
    give_up(lab, &requests, |store, _| async move {
        drop(store.purge_expired(1).await);
    })
    .await?;
    give_up(lab, &to_remove, |store, request| async move {
        drop(store.remove(&request.owner.key).await);
    })
    .await?;
    all_can_be_completed(lab, &requests).await?;
    let what = "removing, after that was given up";
    let remove = |store: Arc<dyn Store>, request: CaseRequest| async move {
        insist(|| store.remove(&request.owner.key)).await
    };
    each(lab, what, &to_remove, remove).await?;
    for request in &to_remove {
        let is_there = lab.store.get(&request.owner.key).await?;
        must_be!("reading it after that", is_there, None);
    }
    Ok(())
}
