//! A handler that has ended its transaction by itself, and whose record was refused on its connection.
//!
//! What it has committed cannot be taken back, so that a retry must not run: what the retry must find is written by a
//! connection of the store's.

use std::sync::Arc;
use std::time::Duration;

use super::fate::{Begun, end_session};
use crate::record::{Owner, StoredResponse};
use crate::store::postgres::error::{is_code_without_savepoint, is_code_without_transaction};
use crate::store::postgres::records::Records;
use crate::store::postgres::row;
use crate::store::transaction::{Committed, Fate, TransactionRequest};
use crate::store::{Claim, ClaimRequest, Completion, StoreError};

/// How long the claim is held until its answer is in it.
const LEASE: Duration = Duration::from_secs(10);

/// How long a record without an answer lives at least.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a connection whose record was refused is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::postgres) enum Remaining {
    /// The transaction that was begun, as far as is known: without `COMMIT` nothing of it happens.
    Ours,
    /// No transaction: all that the handler has written is decided.
    Nothing,
    /// A transaction of the handler's. What is in it is rolled back, and then the handler's answer is not true.
    Others,
    /// The connection is lost, and what has become of the transaction is not known yet.
    Undecided,
}

impl Remaining {
    /// From the SQLSTATE with which the server has refused to return to the savepoint, and whether the transaction is known
    /// to be the one that was begun. A handler can also have released the savepoint: then it is not known.
    pub(in crate::store::postgres) fn of(refused: Option<&str>, is_ours: Option<bool>) -> Self {
        match refused {
            Some(code) if is_code_without_transaction(code) => Self::Nothing,
            Some(code) if is_code_without_savepoint(code) && is_ours != Some(true) => Self::Others,
            _ if is_ours == Some(false) => Self::Others,
            _ => Self::Ours,
        }
    }

    /// From what the server says of a transaction whose connection is lost. What its handler has done after it had ended it, the
    /// server does not say: then the handler's answer may not be true.
    pub(in crate::store::postgres) fn of_lost_connection(fate: Fate) -> Self {
        match fate {
            Fate::Undone => Self::Ours,
            Fate::Ended => Self::Others,
            Fate::Undecided => Self::Undecided,
        }
    }
}

/// A transaction whose record is not written, without its connection.
pub(in crate::store::postgres) struct WithoutRecord {
    records: Arc<Records>,
    request: Option<TransactionRequest>,
    /// Its session, if that says nothing more.
    silent: Option<Begun>,
}

impl WithoutRecord {
    pub(in crate::store::postgres) fn of(
        records: &Arc<Records>,
        begun: Option<(&TransactionRequest, Begun)>,
        is_silent: bool,
    ) -> Self {
        Self {
            records: Arc::clone(records),
            request: begun.map(|(request, _)| request.clone()),
            silent: begun.map(|(_, begun)| begun).filter(|_| is_silent),
        }
    }

    /// What becomes of its request: another request's record is there, or the error says why. Without `COMMIT` nothing
    /// happens, unless the handler has sent one. The response is what the handler has answered, if that may be kept.
    ///
    /// The key is free before the answer goes out; and not before what the handler has committed is in a record: its connection
    /// may not say anything to a rollback, and has no lock any more.
    pub(in crate::store::postgres) async fn settle(
        self,
        remaining: Remaining,
        error: Option<StoreError>,
        response: Option<&StoredResponse>,
        rolling_back: impl Future<Output = ()>,
    ) -> Result<Committed, StoreError> {
        let keeping = match (remaining, &self.request) {
            (Remaining::Nothing, Some(request)) => Some((request, response)),
            (Remaining::Others, Some(request)) => Some((request, None)),
            (Remaining::Ours | Remaining::Undecided, _) | (_, None) => None,
        };
        let mut kept = None;
        if let Some((request, answer)) = keeping {
            if let Some(begun) = self.silent {
                end_session(&self.records, begun).await;
            }
            kept = Some(keep(&self.records, request, answer).await);
        }
        rolling_back.await;
        match (kept, remaining, error) {
            (Some(committed), ..) => Ok(committed),
            (None, Remaining::Ours, Some(error)) => Err(error.not_executed()),
            (None, Remaining::Undecided, Some(error)) => Err(error.maybe_executed()),
            (None, ..) => Ok(Committed::Lost),
        }
    }
}

/// Keeps the answer, or without one that the outcome is unknown.
async fn keep(
    records: &Records,
    request: &TransactionRequest,
    answer: Option<&StoredResponse>,
) -> Committed {
    tracing::error!(record = %request.owner.key,
        "a handler ended its own transaction; its record cannot be written there");
    match try_to_keep(records, request, answer).await {
        Ok(true) => Committed::Stored,
        Ok(false) => Committed::Unknown,
        Err(error) => {
            tracing::error!(record = %request.owner.key, error = &error as &dyn std::error::Error,
                "could not store the record of a handler that ended its own transaction");
            Committed::Unknown
        }
    }
}

/// Says whether the answer is stored.
async fn try_to_keep(
    records: &Records,
    request: &TransactionRequest,
    answer: Option<&StoredResponse>,
) -> Result<bool, StoreError> {
    for key in request.keys() {
        let token = request.owner.token;
        let owner = Owner { key, token };
        let claim = ClaimRequest {
            owner,
            fingerprint: request.fingerprint,
            operation: &request.operation,
            label: request.label.as_deref(),
            lease: answer.map_or(Duration::ZERO, |_| LEASE),
            retention: request.ttl.max(RETENTION),
            progress: &[],
            take_over: None,
        };
        let claim = row::claim(&records.claim(&claim).await?)?;
        if !matches!(claim, Claim::Acquired(_)) {
            return Ok(false);
        }
        if let Some(answer) = answer {
            let done = records.complete(&owner, answer, request.ttl).await?;
            if row::completion(&done)? == Completion::Lost {
                return Ok(false);
            }
        }
    }
    Ok(answer.is_some())
}
