//! May this request run? From what identifies it to a claim, a transaction or an answer.

use std::ops::ControlFlow::{self, Break, Continue};

use axum::response::Response;

use super::answer;
use super::received::{Handle, Received};
use crate::engine::{
    ClaimGuard, Fingerprints, InTransaction, Intent, OldKey, Refusal, begin_unprotected,
    enter_transaction, look_up_old,
};
use crate::handle::Transactions;
use crate::handle::{Idempotency, OnStoreFailure};
use crate::key::RecordKey;
use crate::policy::Policy;
use crate::store::transaction::TransactionConnection;
use crate::store::{Claim, StoreErrorKind};

/// What becomes of a request.
pub(super) enum Admission {
    /// It is answered without running. Boxed: every request would make room for it.
    Answer(Box<Response>),
    /// It runs and is not protected, as it was asked for.
    Unprotected,
    /// It runs and is not protected, because the store is unavailable.
    Degraded(RecordKey),
    /// It runs under a claim.
    Run(Box<ClaimGuard>),
}

impl Admission {
    fn answer(answer: Response) -> Self {
        Self::Answer(Box::new(answer))
    }
}

pub(super) async fn admit(request: &mut Received<Idempotency>, policy: &Policy) -> Admission {
    let Received {
        handle,
        intent,
        original,
        ..
    } = request;
    let intent = match &*intent {
        Ok(Some(intent)) => intent,
        Ok(None) => return Admission::Unprotected,
        Err(problem) => return Admission::answer(answer::problem(handle, problem)),
    };
    let mut original = original.take();
    // If there is no other digest the body is gone by now: a waiter may wait for long.
    let mut other = || original.take()?.by_other_digest(handle, policy);
    let mut fingerprints = Fingerprints::new(intent.fingerprint, &mut other);
    if handle.is_overloaded() {
        // Boxed: few requests have to make room for it.
        let answer = Box::pin(stored_or_overloaded(handle, intent, &mut fingerprints));
        return Admission::answer(answer.await);
    }
    if intent.is_too_old(policy) {
        return Box::pin(admit_too_old(handle, intent, fingerprints, policy)).await;
    }
    let describe = |crashed| handle.describe(intent, crashed);
    let engine = handle.engine();
    let entered = engine.enter(intent, fingerprints, policy, &describe);
    admission(handle, intent, entered.await)
}

/// A key that is too old to run, and may have a record all the same.
async fn admit_too_old(
    idempotency: &Idempotency,
    intent: &Intent,
    mut fingerprints: Fingerprints<'_>,
    policy: &Policy,
) -> Admission {
    if let Some(answer) = stored_or_expired(idempotency, intent, &mut fingerprints).await {
        return Admission::answer(answer);
    }
    let describe = |crashed| idempotency.describe(intent, crashed);
    let engine = idempotency.engine();
    let entered = engine.enter(intent, fingerprints, policy, &describe).await;
    // It has a record.
    admission(idempotency, intent, entered.map_err(Refusal::of_key_in_use))
}

fn admission(
    idempotency: &Idempotency,
    intent: &Intent,
    entered: Result<Claim<Box<ClaimGuard>>, Refusal>,
) -> Admission {
    match entered {
        Ok(claim) => match decided(idempotency, intent, claim) {
            Continue(held) => Admission::Run(held),
            Break(answer) => Admission::answer(answer),
        },
        Err(refusal) => refused(idempotency, &refusal, intent),
    }
}

/// The same, for a handler that runs in a transaction; one that needs no protection gets a
/// transaction too. Without the store there is no transaction, whatever [`OnStoreFailure`] says.
pub(super) async fn admit_to_transaction<C: TransactionConnection>(
    request: &mut Received<Transactions<C>>,
    policy: &Policy,
) -> ControlFlow<Response, InTransaction<C>> {
    let Received {
        handle,
        intent,
        original,
        ..
    } = request;
    let idempotency = handle.idempotency();
    let (engine, begin) = (idempotency.engine(), handle.begin());
    let intent = match &*intent {
        Ok(Some(intent)) => intent,
        Err(problem) => return Break(answer::problem(idempotency, problem)),
        // It runs on in the background like any other.
        Ok(None) if idempotency.is_overloaded() => {
            return Break(answer::overloaded(idempotency));
        }
        Ok(None) => {
            return match begin_unprotected(engine, begin).await {
                Ok(transaction) => Continue(transaction),
                Err(refusal) => Break(answer::refuse(idempotency, &refusal)),
            };
        }
    };
    let mut original = original.take();
    let mut other = || original.take()?.by_other_digest(idempotency, policy);
    let mut fingerprints = Fingerprints::new(intent.fingerprint, &mut other);
    if idempotency.is_overloaded() {
        let answer = stored_or_overloaded(idempotency, intent, &mut fingerprints);
        return Break(answer.await);
    }
    if intent.is_too_old(policy)
        && let Some(answer) = stored_or_expired(idempotency, intent, &mut fingerprints).await
    {
        return Break(answer);
    }
    let entered = enter_transaction(engine, begin, intent, fingerprints, policy);
    match entered.await {
        // It was not when it came, and has waited.
        Ok(Claim::Acquired(transaction)) if intent.is_too_old(policy) => {
            transaction.roll_back().await;
            Break(answer::refuse(idempotency, &Refusal::KeyExpired))
        }
        Ok(claim) => decided(idempotency, intent, claim),
        Err(refusal) => Break(answer::refuse(idempotency, &refusal)),
    }
}

/// Answers a request whose content was rejected. It never takes a claim.
///
/// A retry of a completed request still gets its answer, even if the rules for bodies have
/// become stricter since.
pub(super) async fn reject<H: Handle>(
    request: Received<H>,
    policy: &Policy,
    rejection: Response,
) -> Response {
    let Ok(Some(intent)) = request.intent else {
        return rejection;
    };
    let idempotency = request.handle.idempotency();
    let mut original = request.original;
    let mut other = || original.take()?.by_other_digest(idempotency, policy);
    let mut fingerprints = Fingerprints::new(intent.fingerprint, &mut other);
    let stored = stored_response(idempotency, &intent, &mut fingerprints);
    stored.await.unwrap_or(rejection)
}

/// The answer to a request whose key is too old to run, unless it may be decided about as any other.
async fn stored_or_expired(
    idempotency: &Idempotency,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
) -> Option<Response> {
    Some(
        match look_up_old(idempotency.engine(), intent, fingerprints).await {
            Ok(OldKey::Undecided) => return None,
            Ok(OldKey::Completed(stored)) => answer::replay(idempotency, stored),
            Ok(OldKey::Expired) => answer::refuse(idempotency, &Refusal::KeyExpired),
            Err(error) => answer::refuse(idempotency, &Refusal::Store(error)),
        },
    )
}

/// The replay of a completed request, without a claim.
async fn stored_response(
    idempotency: &Idempotency,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
) -> Option<Response> {
    let is_this_request = |found| fingerprints.include(found);
    let stored = idempotency
        .engine()
        .peek(&intent.keys, is_this_request)
        .await;
    stored.map(|stored| answer::replay(idempotency, stored))
}

/// What a request is answered when no handler may begin: as while the service shuts down, a replay is
/// none the worse for it.
async fn stored_or_overloaded(
    idempotency: &Idempotency,
    intent: &Intent,
    fingerprints: &mut Fingerprints<'_>,
) -> Response {
    let stored = stored_response(idempotency, intent, fingerprints).await;
    stored.unwrap_or_else(|| answer::overloaded(idempotency))
}

/// What runs, or the answer.
fn decided<R>(
    idempotency: &Idempotency,
    intent: &Intent,
    claim: Claim<R>,
) -> ControlFlow<Response, R> {
    if matches!(claim, Claim::Abandoned { .. }) {
        let (record, operation) = (intent.keys.first(), intent.operation.shown());
        tracing::debug!(%record, operation, "refused a key whose outcome is unknown");
    }
    answer::decided(idempotency, claim)
}

fn refused(idempotency: &Idempotency, refusal: &Refusal, intent: &Intent) -> Admission {
    // A key that is known to be in use, or whose record cannot be read or is locked by another request, is the
    // opposite of a licence to run. A full store is one that works: one client could fill it, and all retries
    // would run twice.
    let is_unavailable = match refusal {
        Refusal::Store(error) => matches!(
            error.kind(),
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut | StoreErrorKind::Refused
        ),
        Refusal::NoToken(_) => true,
        Refusal::ShuttingDown | Refusal::KeyExpired | Refusal::InUse(_) => false,
    };
    if is_unavailable && idempotency.on_store_failure() == OnStoreFailure::FailOpen {
        tracing::error!(
            error = refusal as &dyn std::error::Error,
            "could not claim a key; running unprotected"
        );
        return Admission::Degraded(intent.keys.first());
    }
    Admission::answer(answer::refuse(idempotency, refusal))
}
