//! Becoming the request that runs in a transaction, and what becomes of that.
//!
//! There is no claim: the record is written with what the handler writes, and both are there or
//! neither is. So there is no lease, nothing can be abandoned, and a request that goes away takes
//! everything along.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

pub(crate) use self::open::InTransaction;
use self::open::{ToRecord, roll_back};
use self::running::Running;
use super::key_queues::{KeyQueue, RunningHere, Turn};
use super::pauses::jittered;
use super::wait::{FIRST_POLL, slowest_poll};
use super::{Engine, Fingerprints, Intent, Refusal, random};
use crate::fingerprint::Fingerprint;
use crate::key::{KeySet, RecordKey};
use crate::keyed::Entry;
use crate::observer::StoreCall;
use crate::policy::{InFlight, Policy};
use crate::record::Owner;
use crate::store::transaction::{ASK_AGAIN, Begin, Session, TransactionRequest};
use crate::store::{Claim, StoreError, StoreErrorKind};

mod open;
mod running;

/// Waits for the request that runs.
struct Waiting {
    queue: Arc<Entry<KeyQueue>>,
    turn: Option<Turn>,
    deadline: Option<Instant>,
    poll: Duration,
    slowest: Duration,
    /// After how long the database is asked although it is another one's turn: the runtime of that one may stand still.
    limit: Duration,
}

impl Waiting {
    /// Whether it is time to ask the database; `false` when it is time to give up.
    async fn wait(&mut self) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| Instant::now() < *deadline) else {
            return false;
        };
        if self.turn.is_none() {
            let limit = deadline.min(Instant::now() + self.limit);
            self.turn = timeout_at(limit, self.queue.turn()).await.ok();
            return self.turn.is_some() || limit < deadline;
        }
        let next = Instant::now() + jittered(self.poll);
        self.poll = (self.poll * 2).min(self.slowest);
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
        poll: FIRST_POLL.min(slowest_poll(intent.ttl)),
        slowest: slowest_poll(intent.ttl),
        limit: engine.0.idle_limit,
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
    match begin_in_time(engine, begin, None).await? {
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
    if let Claim::Acquired(session) = begin_in_time(engine, begin, Some(&request)).await? {
        roll_back(engine, session).await;
    }
    Ok(())
}

async fn try_begin<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
    request: &TransactionRequest,
    waiting: &Waiting,
) -> Result<Claim<Begun<C>>, Refusal> {
    // One that runs here needs no look: its database is busy enough.
    if waiting.turn.is_none()
        && let Some(fingerprint) = waiting.queue.running(waiting.limit)
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
    engine.look_after(Instant::now());
    let begun = begin_in_time(engine, begin, Some(request)).await?;
    Ok(begun.map(|session| Begun { session, running }))
}

/// Every transaction begins here. A timeout without a cause is given the likeliest.
async fn begin_in_time<C>(
    engine: &Engine,
    begin: &dyn Begin<C>,
    request: Option<&TransactionRequest>,
) -> Result<Claim<Box<dyn Session<C>>>, StoreError> {
    let begun = begin.begin(request, engine.0.idle_limit);
    let begun = engine.0.calls.timed(StoreCall::Begin, begun).await;
    begun.map_err(|error| {
        let is_explained = std::error::Error::source(&error).is_some();
        if is_explained || error.kind() != StoreErrorKind::TimedOut {
            return error;
        }
        error.with_source("no connection was free for a transaction, or the database did not reply")
    })
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

#[cfg(all(test, feature = "memory"))]
mod tests;
