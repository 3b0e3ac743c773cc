//! Becoming the request that runs in a transaction, and what becomes of that.
//!
//! There is no claim: the record is written with what the handler writes, and both are there or
//! neither is. So there is no lease, nothing can be abandoned, and a request that goes away takes
//! everything along.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use self::running::Running;
use super::key_queues::{KeyQueue, RunningHere, Turn};
use super::pauses::jittered;
use super::wait::{FIRST_POLL, SLOWEST_POLL};
use super::{Answer, Described, Engine, Fingerprints, Intent, Own, Refusal, random};
use crate::fingerprint::Fingerprint;
use crate::key::{KeySet, RecordKey};
use crate::keyed::Entry;
use crate::observer::StoreCall;
use crate::policy::{InFlight, Policy};
use crate::record::{Owner, RecordState, StoredResponse};
use crate::store::transaction::{ASK_AGAIN, Begin, Committed, Session, TransactionRequest};
use crate::store::{Claim, StoreError, StoreErrorKind};

mod running;

/// A transaction that is open, and whose record is not written yet. Dropped, it is rolled back.
pub(crate) struct InTransaction<C> {
    session: Box<dyn Session<C>>,
    record: Option<ToRecord>,
    running: Running,
}

/// The record that will be written.
struct ToRecord {
    keys: KeySet,
    fingerprint: Fingerprint,
    described: Described,
    /// Ends after the session has.
    _here: RunningHere,
}

/// Waits for the request that runs.
struct Waiting {
    queue: Arc<Entry<KeyQueue>>,
    turn: Option<Turn>,
    deadline: Option<Instant>,
    poll: Duration,
}

impl Waiting {
    /// Whether it is time to ask the database; `false` when it is time to give up.
    async fn wait(&mut self) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| Instant::now() < *deadline) else {
            return false;
        };
        if self.turn.is_none() {
            self.turn = timeout_at(deadline, self.queue.turn()).await.ok();
            return self.turn.is_some();
        }
        let next = Instant::now() + jittered(self.poll);
        self.poll = (self.poll * 2).min(SLOWEST_POLL);
        sleep_until(deadline.min(next)).await;
        true
    }
}

/// Begins, waits, or says what to answer. Dropping the returned future leaves nothing behind.
pub(crate) async fn enter_transaction<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
    intent: &Intent,
    mut fingerprints: Fingerprints<'_>,
    policy: &Policy,
) -> Result<Claim<InTransaction<C>>, Refusal> {
    let key = intent.keys.first();
    let mut request = TransactionRequest {
        owner: Owner {
            key,
            token: random::token()?,
        },
        aliases: intent.keys.others().into(),
        operation: intent.operation.shown().into(),
        label: intent.operation.label().cloned(),
        fingerprint: fingerprints.current(),
        ttl: intent.ttl,
    };
    let queue = engine
        .0
        .key_queues
        .get_or_insert_with(&key, KeyQueue::default);
    let mut waiting = Waiting {
        turn: queue.try_turn(),
        queue,
        deadline: match policy.in_flight {
            InFlight::Reject => None,
            InFlight::Wait => Some(Instant::now() + policy.wait),
        },
        poll: FIRST_POLL,
    };
    loop {
        let lease_left = match try_begin(engine, begin, &request, &waiting).await? {
            Claim::InFlight { lease_left } => lease_left,
            Claim::Mismatch if fingerprints.mismatched() => {
                request.fingerprint = fingerprints.current();
                continue;
            }
            begun => {
                return Ok(begun.map(|begun| {
                    let Begun {
                        session,
                        mut running,
                    } = begun;
                    running.begin(&intent.operation, key);
                    let fingerprint = request.fingerprint;
                    let record = ToRecord {
                        keys: intent.keys.clone(),
                        fingerprint,
                        described: intent.operation.clone(),
                        _here: RunningHere::new(waiting.queue, waiting.turn, fingerprint),
                    };
                    InTransaction {
                        session,
                        record: Some(record),
                        running,
                    }
                }));
            }
        };
        if waiting.deadline.is_some() {
            fingerprints.matched();
        }
        if !waiting.wait().await {
            return Ok(Claim::InFlight { lease_left });
        }
    }
}

/// Begins a transaction for a request that is not protected.
pub(crate) async fn begin_unprotected<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
) -> Result<InTransaction<C>, Refusal> {
    let running = Running::new(engine, engine.tasks().token());
    if engine.is_closing() {
        return Err(Refusal::ShuttingDown);
    }
    match engine
        .0
        .calls
        .timed(StoreCall::Begin, begin.begin(None, engine.0.idle_limit))
        .await?
    {
        Claim::Acquired(session) => Ok(InTransaction {
            session,
            record: None,
            running,
        }),
        _ => Err(impossible(engine).into()),
    }
}

/// Begins one for a key that no request has, and takes it back: whether the database, the table and
/// the rights are as they should be.
pub(crate) async fn try_transactions<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
) -> Result<(), Refusal> {
    let (token, other) = (random::token()?, random::token()?);
    let mut key = [0; 32];
    let random = token.as_bytes().iter().chain(other.as_bytes());
    key.iter_mut()
        .zip(random)
        .for_each(|(to, from)| *to = *from);
    let request = TransactionRequest {
        owner: Owner {
            key: RecordKey::from_bytes(key),
            token,
        },
        aliases: Arc::default(),
        operation: "idempotent: start-up".into(),
        label: None,
        fingerprint: Fingerprint::from_bytes(key),
        ttl: Duration::from_secs(1),
    };
    if let Claim::Acquired(session) = engine
        .0
        .calls
        .timed(
            StoreCall::Begin,
            begin.begin(Some(&request), engine.0.idle_limit),
        )
        .await?
    {
        roll_back(engine, session).await;
    }
    Ok(())
}

/// Dropped half-way, the connection is closed, and the database does it.
async fn roll_back<C>(engine: &Engine, session: Box<dyn Session<C>>) {
    drop(tokio::time::timeout(engine.0.calls.limit(), session.roll_back()).await);
}

async fn try_begin<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
    request: &TransactionRequest,
    waiting: &Waiting,
) -> Result<Claim<Begun<C>>, Refusal> {
    // One that runs here needs no look: its database is busy enough.
    if waiting.turn.is_none()
        && let Some(fingerprint) = waiting.queue.running()
    {
        return Ok(if fingerprint == request.fingerprint {
            Claim::InFlight {
                lease_left: ASK_AGAIN,
            }
        } else {
            Claim::Mismatch
        });
    }
    // As with a claim, the token comes before the look at the flag.
    let running = Running::new(engine, engine.tasks().token());
    if engine.is_closing() {
        let is_this_request = |fingerprint| fingerprint == request.fingerprint;
        let keys = KeySet::new(request.owner.key, Some(Arc::clone(&request.aliases)));
        return match engine.peek(&keys, is_this_request).await {
            Some(stored) => Ok(Claim::Completed(stored)),
            None => Err(Refusal::ShuttingDown),
        };
    }
    engine.look_after();
    let begun = begin.begin(Some(request), engine.0.idle_limit);
    let begun = engine.0.calls.timed(StoreCall::Begin, begun).await?;
    Ok(begun.map(|session| Begun { session, running }))
}

fn impossible(engine: &Engine) -> StoreError {
    let cause = "it has refused a transaction without a record";
    StoreError::new(engine.store().name(), StoreErrorKind::Refused).with_source(cause)
}

/// A transaction that was begun for a record.
struct Begun<C> {
    session: Box<dyn Session<C>>,
    running: Running,
}

impl<C> InTransaction<C> {
    pub(crate) fn connection(&mut self) -> &mut C {
        self.session.connection()
    }

    /// The record that it will be written to, if there will be one.
    pub(crate) fn key(&self) -> Option<RecordKey> {
        self.record.as_ref().map(|record| record.keys.first())
    }

    /// What operators see of its request, if it will be in a record.
    pub(crate) fn described(&self) -> Option<&Described> {
        self.record.as_ref().map(|record| &record.described)
    }

    /// Whether the database takes no more statements in this transaction, or does not say.
    pub(crate) async fn is_failed(&mut self) -> bool {
        let limit = self.running.engine.0.calls.limit();
        let is_failed = tokio::time::timeout(limit, self.session.is_failed()).await;
        is_failed.unwrap_or(true)
    }

    /// Whether the handler has ended the transaction by itself: then what it wrote may be there.
    pub(crate) async fn is_ended(&mut self) -> bool {
        let limit = self.running.engine.0.calls.limit();
        let is_ended = tokio::time::timeout(limit, self.session.is_ended());
        self.record.is_some() && is_ended.await.unwrap_or(false)
    }

    /// Takes back what the handler has written.
    pub(crate) async fn undo(&mut self) -> Result<(), Refusal> {
        let engine = self.running.engine.clone();
        Ok(engine
            .0
            .calls
            .timed(StoreCall::Undo, self.session.undo())
            .await?)
    }

    /// Takes everything back and frees the key, after a handler that did not say what it has done. `false` if the handler has
    /// ended the transaction by itself: what it wrote may be there, and a record says so.
    pub(crate) async fn take_back(mut self) -> bool {
        if !self.is_ended().await {
            self.roll_back().await;
            return true;
        }
        let record = self.key().map(tracing::field::display);
        tracing::error!(
            record,
            "a handler has ended its transaction by itself, and its answer is not stored"
        );
        self.abandon().await;
        false
    }

    /// Takes everything back and frees the key.
    pub(crate) async fn roll_back(self) {
        let Self {
            session, running, ..
        } = self;
        roll_back(&running.engine, session).await;
    }

    /// Takes back what can be taken back of a transaction that the handler has ended by itself, and keeps that its outcome is
    /// unknown.
    async fn abandon(self) {
        let Self {
            session, running, ..
        } = self;
        let limit = running.engine.0.calls.limit();
        drop(tokio::time::timeout(limit, session.abandon()).await);
    }

    /// Commits the handler's writes and the record, and says what to answer: an error only when
    /// certainly nothing was committed. A commit of which nothing is known may still happen, so it is in
    /// flight: the next request with the key finds the truth.
    pub(crate) async fn commit(self, response: &StoredResponse) -> Result<Answer, Refusal> {
        let Self {
            session,
            record,
            running,
        } = self;
        let engine = &running.engine;
        let trace_context = record.as_ref().and_then(|it| it.described.trace_context());
        let traced = trace_context.map(|it| response.clone().with_trace_context(it));
        let commit = session.commit(traced.as_ref().unwrap_or(response));
        let committed = engine.0.calls.timed(StoreCall::Commit, commit).await;
        let is_ended = matches!(committed, Ok(Committed::Unknown));
        let error = match committed {
            Ok(Committed::Stored) => return Ok(Answer::Acquired(Own::Stored)),
            Ok(Committed::Unknown) => {
                StoreError::new(engine.store().name(), StoreErrorKind::Refused)
                    .with_source("the handler has ended its transaction by itself")
            }
            Ok(Committed::Lost) => {
                StoreError::new(engine.store().name(), StoreErrorKind::Unavailable)
                    .not_executed()
                    .with_source("the transaction was lost before it was committed")
            }
            Err(error) => error,
        };
        match record {
            Some(record) => truth(engine, &record, error, is_ended).await,
            // Without a record nothing will ever tell.
            None if error.may_have_happened() => Ok(UNKNOWN),
            None => Err(error.into()),
        }
    }
}

/// What nothing will ever tell.
const UNKNOWN: Answer = Answer::Abandoned {
    attempt: 1,
    age: Duration::ZERO,
};

/// What a commit of which no good was heard has come to, as far as that can be said by now. Where the handler has ended the
/// transaction by itself, nothing of it is on its way any more.
async fn truth(
    engine: &Engine,
    record: &ToRecord,
    error: StoreError,
    is_ended: bool,
) -> Result<Answer, Refusal> {
    tracing::warn!(record = %record.keys.first(), error = &error as &dyn std::error::Error,
        "could not commit a transaction");
    let may_have_happened = error.may_have_happened();
    let undecided = move || {
        if is_ended {
            Ok(UNKNOWN)
        } else if may_have_happened {
            let lease_left = ASK_AGAIN;
            Ok(Answer::InFlight { lease_left })
        } else {
            Err(error.into())
        }
    };
    match engine.read(&record.keys.first()).await {
        Ok(Some(found)) if found.fingerprint != record.fingerprint => undecided(),
        Ok(Some(found)) => Ok(match found.state {
            RecordState::Completed(stored) => Answer::Completed(stored),
            RecordState::Running { lease_left } => Answer::InFlight { lease_left },
            RecordState::Abandoned => Answer::Abandoned {
                attempt: found.attempt,
                age: found.age,
            },
        }),
        Ok(None) | Err(_) => undecided(),
    }
}

impl<C> fmt::Debug for InTransaction<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InTransaction")
            .field("record", &self.key())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests;
