//! A transaction while its handler runs, and its end.

use std::fmt;
use std::time::Duration;

use super::running::Running;
use crate::engine::key_queues::RunningHere;
use crate::engine::{Answer, Described, Engine, Own, Refusal};
use crate::fingerprint::Fingerprint;
use crate::key::{KeySet, RecordKey};
use crate::observer::StoreCall;
use crate::record::{RecordState, StoredResponse};
use crate::store::transaction::{ASK_AGAIN, Committed, Fate, Session};
use crate::store::{StoreError, StoreErrorKind};

/// A transaction that is open, and whose record is not written yet. Dropped, it is rolled back.
pub(crate) struct InTransaction<C> {
    pub(super) session: Box<dyn Session<C>>,
    pub(super) record: Option<ToRecord>,
    pub(super) running: Running,
}

/// The record that will be written.
pub(super) struct ToRecord {
    pub(super) keys: KeySet,
    pub(super) fingerprint: Fingerprint,
    pub(super) described: Described,
    /// Ends after the session has.
    pub(super) _here: RunningHere,
}

/// Dropped half-way, the connection is closed, and the database does it.
pub(super) async fn roll_back<C>(engine: &Engine, session: Box<dyn Session<C>>) {
    drop(tokio::time::timeout(engine.0.calls.limit(), session.roll_back()).await);
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

    /// What becomes of it if it is not committed.
    pub(crate) async fn fate(&mut self) -> Fate {
        let limit = self.running.engine.0.calls.limit();
        let fate = tokio::time::timeout(limit, self.session.fate()).await;
        fate.unwrap_or(Fate::Undecided)
    }

    /// Takes back what the handler has written.
    pub(crate) async fn undo(&mut self) -> Result<(), Refusal> {
        let engine = self.running.engine.clone();
        let calls = &engine.0.calls;
        // It bounds itself: what the handler has written can take as long again to be taken back.
        let most = calls.limit().saturating_add(engine.0.idle_limit);
        let undoing = self.session.undo(calls.limit());
        Ok(calls.within(most, StoreCall::Undo, undoing).await?)
    }

    /// Takes everything back and frees the key, after a handler that did not say what it has done. If that has ended the
    /// transaction by itself, a record says so.
    pub(crate) async fn take_back(mut self) -> Fate {
        let fate = self.fate().await;
        let record = self.key().map(tracing::field::display);
        match fate {
            Fate::Undone => self.roll_back().await,
            Fate::Ended => {
                tracing::error!(
                    record,
                    "a handler ended its own transaction; its response is not stored"
                );
                self.abandon().await;
            }
            // Dropped, its connection is closed.
            Fate::Undecided => tracing::warn!(
                record,
                "it is unknown whether a transaction that was given up has ended"
            ),
        }
        fate
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
        let limit = running.engine.0.calls.limit().saturating_mul(2);
        if tokio::time::timeout(limit, session.abandon())
            .await
            .is_err()
        {
            tracing::error!("could not clean up in time after a handler ended its own transaction");
        }
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
        let calls = &engine.0.calls;
        let commit = session.commit(traced.as_ref().unwrap_or(response), calls.limit());
        // It bounds itself, and then has something to find out. What the handler has deferred has the handler's time.
        let most = calls
            .limit()
            .saturating_mul(4)
            .saturating_add(engine.0.idle_limit);
        let committed = calls.within(most, StoreCall::Commit, commit).await;
        let is_ended = matches!(committed, Ok(Committed::Unknown));
        let error = match committed {
            Ok(Committed::Stored) => return Ok(Answer::Acquired(Own::Stored)),
            Ok(Committed::Unknown) => {
                StoreError::new(engine.store().name(), StoreErrorKind::Refused)
                    .with_source("the handler ended its own transaction")
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
            None if is_ended || error.may_have_happened() => Ok(UNKNOWN),
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
