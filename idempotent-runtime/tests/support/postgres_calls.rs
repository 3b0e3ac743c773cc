//! Claims and completions that are begun one after the other, while no task runs. So it is certain which of
//! them go alone and which are in one group: on the runtime of one thread that these tests have.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use idempotent_runtime::StoredResponse;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Claim, ClaimRequest, Completion, Store, StoreError};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, TTL, request};

pub(crate) type Call<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

pub(crate) fn claim(store: &Arc<PostgresStore>, request: ClaimRequest<'static>) -> Call<Claim> {
    let store = Arc::clone(store);
    Box::pin(async move { store.claim(&request).await })
}

pub(crate) fn complete(
    store: &Arc<PostgresStore>,
    request: &ClaimRequest<'_>,
    response: &Arc<StoredResponse>,
) -> Call<Completion> {
    let (store, owner, response) = (Arc::clone(store), request.owner, Arc::clone(response));
    Box::pin(async move { store.complete(&owner, &response, TTL).await })
}

/// As many calls, begun in this order: each is under way or queued.
pub(crate) fn begun<T: Send + 'static>(calls: impl IntoIterator<Item = Call<T>>) -> Vec<Call<T>> {
    let mut context = Context::from_waker(Waker::noop());
    let begin = |mut call: Call<T>| match call.as_mut().poll(&mut context) {
        Poll::Pending => call,
        // The server was that quick.
        Poll::Ready(outcome) => Box::pin(std::future::ready(outcome)),
    };
    calls.into_iter().map(begin).collect()
}

pub(crate) fn spawned<T: Send + 'static>(
    calls: Vec<Call<T>>,
) -> Vec<JoinHandle<Result<T, StoreError>>> {
    calls.into_iter().map(tokio::spawn).collect()
}

pub(crate) async fn outcomes<T: Send + 'static>(calls: Vec<Call<T>>) -> Vec<Result<T, StoreError>> {
    let mut outcomes = Vec::new();
    for call in spawned(calls) {
        let outcome = tokio::time::timeout(PATIENCE, call).await;
        outcomes.push(outcome.unwrap().unwrap());
    }
    outcomes
}

/// The calls by one that goes alone and groups of the others.
pub(crate) async fn at_once<T: Send + 'static>(
    calls: impl IntoIterator<Item = Call<T>>,
) -> Vec<Result<T, StoreError>> {
    outcomes(begun(calls)).await
}

pub(crate) fn requests(count: usize) -> Vec<ClaimRequest<'static>> {
    (0..count).map(|_| request()).collect()
}

pub(crate) fn is_acquired(claim: &Claim) -> bool {
    matches!(claim, Claim::Acquired { .. })
}
