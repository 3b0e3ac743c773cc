//! What is done to many records, none of which waits for another.
//!
//! Two round trips: the first begins a transaction and locks those records that no other session has
//! locked, the second writes them and commits. A record that was skipped is looked at without a lock, to tell one
//! that is locked from one that is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, SqlStr};

use super::failure::Failure;
use super::row::{self, COMPLETED, RUNNING, bytes, column};
use super::statements::Statements;
use super::{MySqlStore, NAME};
use crate::key::RecordKey;
use crate::record::{Owner, Token};
use crate::store::sql::corrupt;
use crate::store::{Purged, PurgedClaim, Release, Renewal, Renewed, StoreError, StoreErrorKind};

/// The most records of one transaction: few enough that no other call waits long for one of them.
pub(super) const BATCH: usize = 500;

/// How a claim is given up.
#[derive(Clone, Copy)]
pub(super) enum How {
    Release,
    Abandon,
}

/// What becomes of a record that another session has locked.
#[derive(Clone, Copy)]
pub(super) enum Locked {
    Skip,
    /// For as long as the session waits for a lock.
    Wait,
}

/// A claim as it stands.
enum Standing {
    /// It is this token's, and no one else can write to it before the transaction ends.
    Locked,
    Lost,
    Failed(StoreError),
}

/// What a row says of its record: the token, and the column `state`.
type Found = HashMap<RecordKey, (Option<Token>, u8)>;

impl MySqlStore {
    pub(super) async fn renew_on(
        &self,
        connection: &mut MySqlConnection,
        renewals: &[Renewal],
    ) -> Result<Vec<Result<Renewed, StoreError>>, Failure> {
        let owners: Vec<Owner> = renewals.iter().map(|renewal| renewal.owner).collect();
        let mut lengths: BTreeMap<(Duration, Duration), Vec<RecordKey>> = BTreeMap::new();
        let standings = self
            .write_many(connection, &owners, Locked::Skip, |held| {
                for (renewal, _) in renewals.iter().zip(held).filter(|(_, is_held)| **is_held) {
                    let life = renewal.lease.saturating_add(renewal.retention);
                    let keys = lengths.entry((renewal.lease, life)).or_default();
                    keys.push(renewal.owner.key);
                }
                lengths
                    .iter()
                    .map(|((lease, life), keys)| self.statements.renew(keys, *lease, *life))
                    .collect()
            })
            .await?;
        let renewed = |standing| match standing {
            Standing::Locked => Ok(Renewed::Renewed),
            Standing::Lost => Ok(Renewed::Lost),
            Standing::Failed(error) => Err(error),
        };
        Ok(standings.into_iter().map(renewed).collect())
    }

    pub(super) async fn give_up_on(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        how: How,
    ) -> Result<Vec<Result<Release, StoreError>>, Failure> {
        // One alone delays no other, and the statement in its way is most likely its own completion.
        let locked = match owners {
            [_] => Locked::Wait,
            _ => Locked::Skip,
        };
        let standings = self
            .write_many(connection, owners, locked, |held| {
                let held = owners.iter().zip(held).filter(|(_, is_held)| **is_held);
                let keys: Vec<RecordKey> = held.map(|(owner, _)| owner.key).collect();
                match how {
                    _ if keys.is_empty() => Vec::new(),
                    How::Release => self.delete(&keys),
                    How::Abandon => vec![self.statements.abandon(&keys)],
                }
            })
            .await?;
        let released = |standing| match standing {
            Standing::Locked => Ok(Release::Released),
            Standing::Lost => Ok(Release::Lost),
            Standing::Failed(error) => Err(error),
        };
        Ok(standings.into_iter().map(released).collect())
    }

    /// Locks what is these owners' and free, writes it, and says how each of the claims stood.
    async fn write_many(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        locked: Locked,
        write: impl FnOnce(&[bool]) -> Vec<String> + Send,
    ) -> Result<Vec<Standing>, Failure> {
        let keys: Vec<RecordKey> = owners.iter().map(|owner| owner.key).collect();
        let locked = self
            .find(connection, self.statements.lock(&keys, locked))
            .await;
        let locked = locked.map_err(Failure::in_transaction)?;
        let mut standings: Vec<Option<Standing>> = owners
            .iter()
            .map(|owner| locked.get(&owner.key).map(|found| standing(owner, *found)))
            .collect();
        let is_locked = |standing: &Option<_>| matches!(standing, Some(Standing::Locked));
        let held: Vec<bool> = standings.iter().map(is_locked).collect();
        let commit = sqlx::raw_sql(Statements::commit(&write(&held))).execute(&mut *connection);
        commit
            .await
            .map_err(|error| self.failure(error).in_transaction().not_repeatable())?;
        self.explain(connection, owners, &mut standings)
            .await
            .map_err(Failure::not_repeatable)?;
        let gone = |standing: Option<_>| standing.unwrap_or(Standing::Lost);
        Ok(standings.into_iter().map(gone).collect())
    }

    /// Of what could not be locked: another session has locked it, or it is gone.
    async fn explain(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        standings: &mut [Option<Standing>],
    ) -> Result<(), Failure> {
        let skipped = owners.iter().zip(&*standings);
        let skipped = skipped.filter(|(_, standing)| standing.is_none());
        let keys: Vec<RecordKey> = skipped.map(|(owner, _)| owner.key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let found = self.find(connection, self.statements.look(&keys)).await?;
        for (owner, slot) in owners.iter().zip(standings) {
            if let (None, Some(found)) = (&slot, found.get(&owner.key)) {
                *slot = Some(match standing(owner, *found) {
                    Standing::Locked => {
                        Standing::Failed(StoreError::new(NAME, StoreErrorKind::Busy))
                    }
                    other => other,
                });
            }
        }
        Ok(())
    }

    async fn find(
        &self,
        connection: &mut MySqlConnection,
        statements: SqlStr,
    ) -> Result<Found, Failure> {
        let rows = sqlx::raw_sql(statements).fetch_all(connection).await;
        let rows = rows.map_err(|error| self.failure(error))?;
        rows.iter().map(|row| Ok(found(row)?)).collect()
    }

    fn delete(&self, keys: &[RecordKey]) -> Vec<String> {
        keys.iter().map(|key| self.statements.delete(key)).collect()
    }

    /// Removes at most so many expired records, of at most [`BATCH`].
    pub(super) async fn purge_on(
        &self,
        connection: &mut MySqlConnection,
        limit: usize,
    ) -> Result<Purged, Failure> {
        let lock = self.statements.lock_expired(limit.min(BATCH));
        let rows = sqlx::raw_sql(lock).fetch_all(&mut *connection).await;
        let rows = rows.map_err(|error| self.failure(error).in_transaction())?;
        let mut keys = Vec::with_capacity(rows.len());
        let mut purged = Purged::default();
        for row in &rows {
            let key = key(row).map_err(|error| Failure::from(error).in_transaction())?;
            keys.push(key);
            if let Some(operation) = uncompleted(row) {
                purged.abandoned.push(PurgedClaim { key, operation });
            }
        }
        purged.records = keys.len();
        let commit = Statements::commit(&self.delete(&keys));
        let commit = sqlx::raw_sql(commit).execute(connection);
        let failed = |error| self.failure(error).in_transaction().not_repeatable();
        commit.await.map_err(failed)?;
        Ok(purged)
    }
}

fn standing(owner: &Owner, (token, state): (Option<Token>, u8)) -> Standing {
    match state {
        _ if token != Some(owner.token) => Standing::Lost,
        RUNNING => Standing::Locked,
        COMPLETED => Standing::Lost,
        other => Standing::Failed(row::unknown_state(other)),
    }
}

fn found(row: &MySqlRow) -> Result<(RecordKey, (Option<Token>, u8)), StoreError> {
    Ok((key(row)?, (row::token(row, 1)?, column(row, 2)?)))
}

fn key(row: &MySqlRow) -> Result<RecordKey, StoreError> {
    bytes(row, 0).map(RecordKey::from_bytes)
}

/// The operation, unless the record is completed. One that cannot be read is named so: its record is
/// purged all the same.
fn uncompleted(row: &MySqlRow) -> Option<Arc<str>> {
    if matches!(column::<u8>(row, 1), Ok(COMPLETED)) {
        return None;
    }
    let operation = row::text(row, 2).map_err(|error| corrupt(NAME, error));
    Some(operation.unwrap_or_else(|_| "(unreadable)".into()))
}
