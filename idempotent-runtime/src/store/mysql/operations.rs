//! What is done to one record, on one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use super::error::{Fault, NAME, check_packet, is_conflict, is_duplicate, of_statement};
use super::lane::OnLoan;
use super::records::Records;
use super::row::{self, column, is_completed};
use super::statements::Statement;
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};
use crate::store::sql::corrupt;
use crate::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, StoreError, StoreErrorKind,
};

/// How often a record is looked at by one operation. Each time after the first, another session has just
/// changed it.
const TRIES: usize = 10;

impl Records {
    pub(super) fn fault(&self, error: sqlx::Error) -> Fault {
        of_statement(&self.table, error)
    }

    /// Runs one statement and says how many rows it matched (not: changed; `sqlx` asks for that).
    ///
    /// Of two statements that lock each other out the server rolls one back as a whole. Nothing has
    /// happened then, and it is sent again, once.
    pub(super) async fn matched(
        connection: &mut MySqlConnection,
        statement: impl Fn() -> Statement + Send,
    ) -> Result<u64, sqlx::Error> {
        let done = match statement().execute(&mut *connection).await {
            Err(error) if is_conflict(&error) => statement().execute(connection).await,
            done => done,
        };
        Ok(done?.rows_affected())
    }

    /// Runs one statement about one row and says whether it matched.
    pub(super) async fn has_matched(
        &self,
        connection: &mut MySqlConnection,
        statement: impl Fn() -> Statement + Send,
    ) -> Result<bool, Fault> {
        match Self::matched(connection, statement).await {
            Ok(matched) => Ok(matched > 0),
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Not sent again where it may have been executed: arriving late, the first of two could remove the next record
    /// of the key. A connection that the server has closed is found by a question in front of it, which may be repeated.
    pub(super) async fn remove_on(
        &self,
        connection: &mut MySqlConnection,
        key: &RecordKey,
    ) -> Result<bool, Fault> {
        self.read(connection, self.statements.get(key)).await?;
        let remove = || self.statements.remove(key);
        let is_removed = self.has_matched(connection, remove).await;
        is_removed.map_err(Fault::not_repeatable)
    }

    pub(super) async fn read(
        &self,
        connection: &mut MySqlConnection,
        read: Statement,
    ) -> Result<Option<MySqlRow>, Fault> {
        let row = read.fetch_optional(connection).await;
        row.map_err(|error| self.fault(error))
    }

    pub(super) async fn read_all(
        &self,
        connection: &mut MySqlConnection,
        read: Statement,
    ) -> Result<Vec<MySqlRow>, Fault> {
        let rows = read.fetch_all(connection).await;
        rows.map_err(|error| self.fault(error))
    }

    pub(super) async fn claim_on(
        &self,
        connection: &mut MySqlConnection,
        request: &ClaimRequest<'_>,
    ) -> Result<Claim, Fault> {
        for _ in 0..TRIES {
            if let Some(claim) = self.try_claim(connection, request).await? {
                return Ok(claim);
            }
        }
        Err(contended().into())
    }

    /// One look at the record and at most one write; `None` when another session came in between.
    ///
    /// It is as atomic as its last statement, for nothing is concluded from the look and the write
    /// together. An answer without a write is what the row said at one moment. A write happens only
    /// if the statement itself finds, under the row's lock, what makes it right: no row of that key
    /// (`insert.sql`), an expired one (`reclaim.sql`), that claim and abandoned (`take_over.sql`).
    ///
    /// A write that got no reply is not sent again here: it may be executed at any time, also after the claim was
    /// released, and would hold the key for no attempt. So the one who asks must know of it: the engine asks
    /// again with the same token, and keeps track of it.
    async fn try_claim(
        &self,
        connection: &mut MySqlConnection,
        request: &ClaimRequest<'_>,
    ) -> Result<Option<Claim>, Fault> {
        let first = Claim::Acquired(Acquired {
            attempt: 1,
            age: Duration::ZERO,
        });
        let statements = &self.statements;
        let read = statements.read(&request.owner.key);
        let Some(row) = self.read(connection, read).await? else {
            let insert = || statements.insert(request);
            let is_ours = self.has_matched(connection, insert).await;
            let is_ours = is_ours.map_err(Fault::not_repeatable)?;
            return Ok(is_ours.then_some(first));
        };
        let Some(seen) = row::read(&row)? else {
            let reclaim = || statements.reclaim(request);
            let is_ours = self.has_matched(connection, reclaim).await;
            let is_ours = is_ours.map_err(Fault::not_repeatable)?;
            return Ok(is_ours.then_some(first));
        };
        let claim = seen.claim(&request.fingerprint, request.owner.token);
        let (attempt, age) = match claim.map_err(|error| corrupt(NAME, error))? {
            Claim::Abandoned { attempt, age } if request.take_over == Some(attempt) => {
                (attempt.saturating_add(1), age)
            }
            claim => return Ok(Some(claim)),
        };
        let take_over = || statements.take_over(request, &seen);
        let is_ours = self.has_matched(connection, take_over).await;
        let is_ours = is_ours.map_err(Fault::not_repeatable)?;
        Ok(is_ours.then_some(Claim::Acquired(Acquired { attempt, age })))
    }

    pub(super) async fn complete_on(
        &self,
        connection: &mut OnLoan<'_>,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, Fault> {
        let bytes = response.encode();
        check_packet(bytes.len(), connection.max_packet_bytes())?;
        for _ in 0..TRIES {
            let complete = || {
                self.statements
                    .complete(owner, response.status, &bytes, ttl)
            };
            if self.has_matched(connection, complete).await? {
                return Ok(Completion::Stored);
            }
            let completed_by = self.statements.completed_by(owner);
            match self.read(connection, completed_by).await? {
                None => return Ok(Completion::Lost),
                Some(row) if is_completed(column(&row, 0)?)? => {
                    return Ok(Completion::AlreadyCompleted);
                }
                // It is this owner's to complete, so the update has to match.
                Some(_) => {}
            }
        }
        Err(contended().into())
    }

    pub(super) async fn save_progress_on(
        &self,
        connection: &mut OnLoan<'_>,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, Fault> {
        let limit = connection.max_packet_bytes();
        check_packet(bytes.len(), limit)?;
        for _ in 0..TRIES {
            let save = || self.statements.save_progress(owner, offset, bytes);
            if self.has_matched(connection, save).await? {
                return Ok(Progress::Saved);
            }
            let saved_bytes = self.statements.saved_bytes(owner);
            let Some(row) = self.read(connection, saved_bytes).await? else {
                return Ok(Progress::Lost);
            };
            let stored_bytes = usize::try_from(column::<u64>(&row, 0)?).unwrap_or(usize::MAX);
            if stored_bytes < offset {
                return Ok(Progress::Behind { stored_bytes });
            }
            check_packet(stored_bytes.saturating_add(bytes.len()), limit)?;
            // Another call of this attempt has saved what was missing, between the two statements.
        }
        Err(contended().into())
    }
}

fn contended() -> StoreError {
    let cause = "the record was changed again and again between a look and a write";
    StoreError::new(NAME, StoreErrorKind::Busy).with_source(cause)
}
