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

use super::error::{Fault, NAME};
use super::many::{Locked, ManyStatements};
use super::records::Records;
use super::row::{bytes, column, is_completed, text, token};
use crate::key::RecordKey;
use crate::record::{Owner, Token};
use crate::store::{Purged, PurgedClaim, Release, Renewal, Renewed, StoreError, StoreErrorKind};

/// The most records of one transaction: few enough that no other call waits long for one of them.
pub(super) const BATCH: usize = 500;

/// How a claim is given up.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Release,
    Abandon,
}

/// A claim as it stands.
enum Standing {
    /// It is this token's, and no one else can write to it before the transaction ends.
    Locked,
    Lost,
    Failed(StoreError),
}

/// What a row says of its record: the token, and the column `state`.
type Standings = HashMap<RecordKey, (Option<Token>, u8)>;

impl Records {
    pub(super) async fn renew_on(
        &self,
        connection: &mut MySqlConnection,
        renewals: &[Renewal],
    ) -> Result<Vec<Result<Renewed, StoreError>>, Fault> {
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
                    .map(|((lease, life), keys)| self.many.renew(keys, *lease, *life))
                    .collect()
            })
            .await?;
        Ok(each(standings, Renewed::Renewed, Renewed::Lost))
    }

    pub(super) async fn give_up_on(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        ending: Ending,
    ) -> Result<Vec<Result<Release, StoreError>>, Fault> {
        // One alone delays no other, and the statement in its way is most likely its own completion.
        let locked = match owners {
            [_] => Locked::Wait,
            _ => Locked::Skip,
        };
        let standings = self
            .write_many(connection, owners, locked, |held| {
                let held = owners.iter().zip(held).filter(|(_, is_held)| **is_held);
                let keys: Vec<RecordKey> = held.map(|(owner, _)| owner.key).collect();
                match ending {
                    _ if keys.is_empty() => Vec::new(),
                    Ending::Release => self.many.delete(&keys),
                    Ending::Abandon => vec![self.many.abandon(&keys)],
                }
            })
            .await?;
        Ok(each(standings, Release::Released, Release::Lost))
    }

    /// Locks what is these owners' and free, writes it, and says how each of the claims stood.
    async fn write_many(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        locked: Locked,
        write: impl FnOnce(&[bool]) -> Vec<String> + Send,
    ) -> Result<Vec<Standing>, Fault> {
        let keys: Vec<RecordKey> = owners.iter().map(|owner| owner.key).collect();
        let locked = self.find(connection, self.many.lock(&keys, locked)).await;
        let locked = locked.map_err(Fault::in_transaction)?;
        let mut standings: Vec<Option<Standing>> = owners
            .iter()
            .map(|owner| locked.get(&owner.key).map(|found| standing(owner, *found)))
            .collect();
        let is_locked = |standing: &Option<_>| matches!(standing, Some(Standing::Locked));
        let held: Vec<bool> = standings.iter().map(is_locked).collect();
        let commit = sqlx::raw_sql(ManyStatements::commit(&write(&held))).execute(&mut *connection);
        commit
            .await
            .map_err(|error| self.fault(error).in_transaction().not_repeatable())?;
        self.explain(connection, owners, &mut standings)
            .await
            .map_err(Fault::not_repeatable)?;
        let gone = |standing: Option<_>| standing.unwrap_or(Standing::Lost);
        Ok(standings.into_iter().map(gone).collect())
    }

    /// Of what could not be locked: another session has locked it, or it is gone.
    async fn explain(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        standings: &mut [Option<Standing>],
    ) -> Result<(), Fault> {
        let skipped = owners.iter().zip(&*standings);
        let skipped = skipped.filter(|(_, standing)| standing.is_none());
        let keys: Vec<RecordKey> = skipped.map(|(owner, _)| owner.key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let found = self.find(connection, self.many.look(&keys)).await?;
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
    ) -> Result<Standings, Fault> {
        let rows = sqlx::raw_sql(statements).fetch_all(connection).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        rows.iter().map(|row| Ok(found(row)?)).collect()
    }

    /// Removes at most so many expired records, of at most [`BATCH`].
    pub(super) async fn purge_on(
        &self,
        connection: &mut MySqlConnection,
        limit: usize,
    ) -> Result<Purged, Fault> {
        let lock = self.many.lock_expired(limit.min(BATCH));
        let rows = sqlx::raw_sql(lock).fetch_all(&mut *connection).await;
        let rows = rows.map_err(|error| self.fault(error).in_transaction())?;
        let mut keys = Vec::with_capacity(rows.len());
        let mut purged = Purged::default();
        for row in &rows {
            let key = key(row).map_err(|error| Fault::from(error).in_transaction())?;
            keys.push(key);
            if let Some(operation) = uncompleted(row) {
                purged.abandoned.push(PurgedClaim { key, operation });
            }
        }
        purged.records = keys.len();
        let commit = ManyStatements::commit(&self.many.delete(&keys));
        let commit = sqlx::raw_sql(commit).execute(connection);
        let failed = |error| self.fault(error).in_transaction().not_repeatable();
        commit.await.map_err(failed)?;
        Ok(purged)
    }
}

fn each<T: Copy>(standings: Vec<Standing>, done: T, lost: T) -> Vec<Result<T, StoreError>> {
    let of = |standing| match standing {
        Standing::Locked => Ok(done),
        Standing::Lost => Ok(lost),
        Standing::Failed(error) => Err(error),
    };
    standings.into_iter().map(of).collect()
}

fn standing(owner: &Owner, (token, state): (Option<Token>, u8)) -> Standing {
    if token != Some(owner.token) {
        return Standing::Lost;
    }
    match is_completed(state) {
        Ok(false) => Standing::Locked,
        Ok(true) => Standing::Lost,
        Err(error) => Standing::Failed(error),
    }
}

fn found(row: &MySqlRow) -> Result<(RecordKey, (Option<Token>, u8)), StoreError> {
    Ok((key(row)?, (token(row, 1)?, column(row, 2)?)))
}

fn key(row: &MySqlRow) -> Result<RecordKey, StoreError> {
    bytes(row, 0).map(RecordKey::from_bytes)
}

/// The operation, unless the record is completed. One that cannot be read is named so: its record is
/// purged all the same.
fn uncompleted(row: &MySqlRow) -> Option<Arc<str>> {
    if column(row, 1).and_then(is_completed).unwrap_or(false) {
        return None;
    }
    Some(text(row, 2).unwrap_or_else(|_| "(unreadable)".into()))
}
