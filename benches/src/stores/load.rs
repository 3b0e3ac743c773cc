//! Callers that ask a store for the same thing again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use idempotent_runtime::StoredResponse;
use idempotent_runtime::store::{Acquired, Claim, Completion, Store};
use tokio::task::JoinSet;

use super::insert::{Inserts, pay};
use crate::Failure;
use crate::numbers::{Latencies, TTL, claim};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A first claim.
    Claim,
    /// A first claim, and its completion.
    Pair,
    /// A claim of a completed record; all callers have the same one.
    Replay,
    /// A payment in a transaction, without idempotency.
    Insert(Driver),
    /// The same with a key of its own, and a record that is written without this crate, by `sqlx`.
    InsertByHand,
    /// The same with `#[tx]`, and a key of its own.
    InsertWithRecord(Driver),
}

/// What a handler writes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Sqlx,
    TokioPostgres,
}

impl Operation {
    /// What every store does.
    pub(crate) const ALL: [Self; 3] = [Self::Claim, Self::Pair, Self::Replay];

    /// What is compared with each other.
    pub(super) const fn inserts(driver: Driver) -> &'static [Self] {
        const SQLX: [Operation; 3] = [
            Operation::Insert(Driver::Sqlx),
            Operation::InsertByHand,
            Operation::InsertWithRecord(Driver::Sqlx),
        ];
        const TOKIO_POSTGRES: [Operation; 2] = [
            Operation::Insert(Driver::TokioPostgres),
            Operation::InsertWithRecord(Driver::TokioPostgres),
        ];
        match driver {
            Driver::Sqlx => &SQLX,
            Driver::TokioPostgres => &TOKIO_POSTGRES,
        }
    }

    /// What writes, if it is an insert.
    pub(super) const fn driver(self) -> Option<Driver> {
        match self {
            Self::Insert(driver) | Self::InsertWithRecord(driver) => Some(driver),
            Self::InsertByHand => Some(Driver::Sqlx),
            Self::Claim | Self::Pair | Self::Replay => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Pair => "claim + complete",
            Self::Replay => "replay",
            Self::Insert(Driver::Sqlx) => "insert",
            Self::InsertByHand => "insert, hand-written record",
            Self::InsertWithRecord(Driver::Sqlx) => "insert, `#[tx]`",
            Self::Insert(Driver::TokioPostgres) => "insert, tokio-postgres",
            Self::InsertWithRecord(Driver::TokioPostgres) => "insert, `#[tx]`, tokio-postgres",
        }
    }
}

pub(crate) struct Run {
    store: Arc<dyn Store>,
    response: Arc<StoredResponse>,
    inserts: Arc<[Inserts]>,
    /// The record that is replayed; those after it are claimed.
    first: u64,
    next: Arc<AtomicU64>,
}

pub(crate) struct Loaded {
    pub(crate) latencies: Latencies,
    pub(crate) took: Duration,
}

impl Run {
    pub(super) fn new(
        store: Arc<dyn Store>,
        response: Arc<StoredResponse>,
        inserts: Vec<Inserts>,
        first: u64,
    ) -> Self {
        Self {
            store,
            response,
            inserts: inserts.into(),
            first,
            next: Arc::new(AtomicU64::new(first + 1)),
        }
    }

    /// Makes the record that is replayed, and has each connection prepare its statements.
    pub(super) async fn warm_up(&mut self, cells: &[(Operation, u32)]) -> Result<(), Failure> {
        pair(&*self.store, self.first, &self.response).await?;
        for (operation, callers) in cells {
            self.load(*operation, *callers, Duration::from_millis(200))
                .await?;
        }
        Ok(())
    }

    /// Where the connections are that an operation goes through.
    pub(super) fn store_of(&self, operation: Operation) -> Arc<dyn Store> {
        let inserts = inserts_of(&self.inserts, operation);
        Arc::clone(inserts.map_or(&self.store, |inserts| &inserts.store))
    }

    pub(crate) async fn load(
        &mut self,
        operation: Operation,
        callers: u32,
        length: Duration,
    ) -> Result<Loaded, Failure> {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (store, response) = (Arc::clone(&self.store), Arc::clone(&self.response));
            let (first, next) = (self.first, Arc::clone(&self.next));
            let inserts = Arc::clone(&self.inserts);
            tasks.spawn(async move {
                let inserts = || inserts_of(&inserts, operation).ok_or("it has no transactions");
                let mut latencies = Latencies::default();
                while begun.elapsed() < length {
                    let started = Instant::now();
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match operation {
                        Operation::Claim => first_claim(&*store, number).await?,
                        Operation::Pair => pair(&*store, number, &response).await?,
                        Operation::Replay => replay(&*store, first, number).await?,
                        Operation::Insert(_) => pay(inserts()?.alone.clone(), number).await?,
                        Operation::InsertByHand => {
                            let by_hand = inserts()?.by_hand.clone();
                            pay(by_hand.ok_or("it is not written")?, number).await?;
                        }
                        Operation::InsertWithRecord(_) => {
                            pay(inserts()?.with_record.clone(), number).await?;
                        }
                    }
                    latencies.add(started.elapsed());
                }
                Ok::<_, Failure>(latencies)
            });
        }
        let mut latencies = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            latencies.append(done??);
        }
        Ok(Loaded {
            latencies,
            took: begun.elapsed(),
        })
    }
}

fn inserts_of(inserts: &[Inserts], operation: Operation) -> Option<&Inserts> {
    let driver = operation.driver()?;
    inserts.iter().find(|inserts| inserts.driver == driver)
}

pub(crate) async fn first_claim(store: &dyn Store, number: u64) -> Result<(), Failure> {
    match store.claim(&claim(number, 0)).await? {
        Claim::Acquired(Acquired { attempt: 1, .. }) => Ok(()),
        other => Err(format!("a first claim was answered {other:?}").into()),
    }
}

pub(crate) async fn pair(
    store: &dyn Store,
    number: u64,
    response: &Arc<StoredResponse>,
) -> Result<(), Failure> {
    first_claim(store, number).await?;
    let owner = claim(number, 0).owner;
    match store.complete(&owner, response, TTL).await? {
        Completion::Stored => Ok(()),
        other => Err(format!("a completion was answered {other:?}").into()),
    }
}

pub(crate) async fn replay(store: &dyn Store, number: u64, claimer: u64) -> Result<(), Failure> {
    match store.claim(&claim(number, claimer)).await? {
        Claim::Completed(_) => Ok(()),
        other => Err(format!("a replay was answered {other:?}").into()),
    }
}
