//! What is done to one record, on one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use super::failure::{self, Failure};
use super::lane::OnLoan;
use super::row::{self, COMPLETED, RUNNING, Row, column};
use super::statements::Statement;
use super::{MySqlStore, NAME};
use crate::record::{Owner, StoredResponse};
use crate::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, StoreError, StoreErrorKind,
};

/// How often a record is looked at by one operation. Each time after the first, another session has just
/// changed it.
const TRIES: usize = 10;

impl MySqlStore {
    pub(super) fn failure(&self, error: sqlx::Error) -> Failure {
        failure::of_statement(&self.place, error)
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
            Err(error) if failure::is_conflict(&error) => statement().execute(connection).await,
            done => done,
        };
        Ok(done?.rows_affected())
    }

    /// Runs one statement about one row and says whether it matched.
    pub(super) async fn has_matched(
        &self,
        connection: &mut MySqlConnection,
        statement: impl Fn() -> Statement + Send,
    ) -> Result<bool, Failure> {
        match Self::matched(connection, statement).await {
            Ok(matched) => Ok(matched > 0),
            Err(error) if failure::is_duplicate(&error) => Ok(false),
            Err(error) => Err(self.failure(error)),
        }
    }

    pub(super) async fn read(
        &self,
        connection: &mut MySqlConnection,
        read: Statement,
    ) -> Result<Option<MySqlRow>, Failure> {
        let row = read.fetch_optional(connection).await;
        row.map_err(|error| self.failure(error))
    }

    pub(super) async fn read_all(
        &self,
        connection: &mut MySqlConnection,
        read: Statement,
    ) -> Result<Vec<MySqlRow>, Failure> {
        let rows = read.fetch_all(connection).await;
        rows.map_err(|error| self.failure(error))
    }

    pub(super) async fn claim_on(
        &self,
        connection: &mut MySqlConnection,
        request: &ClaimRequest<'_>,
    ) -> Result<Claim, Failure> {
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
    async fn try_claim(
        &self,
        connection: &mut MySqlConnection,
        request: &ClaimRequest<'_>,
    ) -> Result<Option<Claim>, Failure> {
        let first = Claim::Acquired(Acquired {
            attempt: 1,
            age: Duration::ZERO,
        });
        let statements = &self.statements;
        let read = statements.read(&request.owner.key);
        let Some(row) = self.read(connection, read).await? else {
            let insert = || statements.insert(request);
            let is_ours = self.has_matched(connection, insert).await?;
            return Ok(is_ours.then_some(first));
        };
        let Some(seen) = Row::read(&row)? else {
            let reclaim = || statements.reclaim(request);
            let is_ours = self.has_matched(connection, reclaim).await?;
            return Ok(is_ours.then_some(first));
        };
        if let Some(claim) = seen.answer(request) {
            return Ok(Some(claim));
        }
        let take_over = || statements.take_over(request, &seen);
        let is_ours = self.has_matched(connection, take_over).await?;
        Ok(is_ours.then_some(Claim::Acquired(Acquired {
            attempt: seen.next_attempt(),
            age: seen.age,
        })))
    }

    pub(super) async fn complete_on(
        &self,
        connection: &mut OnLoan<'_>,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, Failure> {
        let bytes = response.encode();
        failure::check_packet(bytes.len(), connection.max_packet_bytes())?;
        let complete = || {
            self.statements
                .complete(owner, response.status, &bytes, ttl)
        };
        if self.has_matched(connection, complete).await? {
            return Ok(Completion::Stored);
        }
        let completed_by = self.statements.completed_by(owner);
        match self.read(connection, completed_by).await? {
            Some(row) => match column::<u8>(&row, 0)? {
                COMPLETED => Ok(Completion::AlreadyCompleted),
                RUNNING => Ok(Completion::Lost),
                other => Err(row::unknown_state(other).into()),
            },
            None => Ok(Completion::Lost),
        }
    }

    pub(super) async fn save_progress_on(
        &self,
        connection: &mut OnLoan<'_>,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, Failure> {
        let limit = connection.max_packet_bytes();
        failure::check_packet(bytes.len(), limit)?;
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
            failure::check_packet(stored_bytes.saturating_add(bytes.len()), limit)?;
            // Another call of this attempt has saved what was missing, between the two statements.
        }
        Err(contended().into())
    }
}

fn contended() -> StoreError {
    let cause = "the record was changed again and again between a look and a write";
    StoreError::new(NAME, StoreErrorKind::Busy).with_source(cause)
}
