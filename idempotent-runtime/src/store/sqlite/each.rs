//! Renewals, releases and abandonings: many by one statement, and a result for each.
//!
//! They are of different requests. If the statement for many fails, each is run by itself, to its own
//! result.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::SqlStr;

use super::batches::{Batches, MOST};
use super::error::{Undone, is_of_one_statement, store_error};
use super::job::{Urgency, WriteOperation};
use super::row::key_of;
use super::session::WriteSession;
use super::statements::{Statement, Statements, of_owner};
use super::time::Time;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::waiters::Waiters;
use crate::store::{Renewal, StoreError};

/// What is done to each.
pub(super) trait Item: Copy + Send + Sync + 'static {
    /// Whether waiters have something new to see.
    const IS_CHANGE: bool;

    fn owner(&self) -> &Owner;
    fn alone(statements: &Statements) -> &SqlStr;
    fn many(statements: &Statements) -> &Batches;

    /// The parameters behind key, token and now.
    fn bind(&self, statement: Statement, _now: Time) -> Statement {
        statement
    }
}

impl Item for Renewal {
    const IS_CHANGE: bool = false;

    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn alone(statements: &Statements) -> &SqlStr {
        &statements.renew
    }

    fn many(statements: &Statements) -> &Batches {
        &statements.renew_all
    }

    fn bind(&self, statement: Statement, now: Time) -> Statement {
        let lease_until = now.after(self.lease);
        let expires_at = lease_until.after(self.retention);
        statement.bind(lease_until.0).bind(expires_at.0)
    }
}

/// The record goes.
#[derive(Clone, Copy)]
pub(super) struct Free(pub(super) Owner);

impl Item for Free {
    const IS_CHANGE: bool = true;

    fn owner(&self) -> &Owner {
        &self.0
    }

    fn alone(statements: &Statements) -> &SqlStr {
        &statements.release
    }

    fn many(statements: &Statements) -> &Batches {
        &statements.release_all
    }
}

/// The record stays.
#[derive(Clone, Copy)]
pub(super) struct Abandon(pub(super) Owner);

impl Item for Abandon {
    const IS_CHANGE: bool = true;

    fn owner(&self) -> &Owner {
        &self.0
    }

    fn alone(statements: &Statements) -> &SqlStr {
        &statements.abandon
    }

    fn many(statements: &Statements) -> &Batches {
        &statements.abandon_all
    }
}

/// For each its record, and whether that was the owner's.
pub(super) type Done = Vec<(RecordKey, Result<bool, StoreError>)>;

pub(super) struct Each<I>(pub(super) Vec<I>);

#[async_trait]
impl<I: Item> WriteOperation for Each<I> {
    type Output = Done;

    const URGENCY: Urgency = Urgency::OfHolder;

    async fn run(self, session: &mut WriteSession) -> Result<Done, Undone> {
        let mut done = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let (items, others) = rest.split_at(independent(rest));
            rest = others;
            if let Some(keys) = run_together(items, session).await? {
                let is_among = |item: &I| (item.owner().key, Ok(keys.contains(&item.owner().key)));
                done.extend(items.iter().map(is_among));
                continue;
            }
            for item in items {
                done.push((item.owner().key, run_alone(item, session).await?));
            }
        }
        Ok(done)
    }

    fn wake(done: &Done, waiters: &Waiters) {
        for (key, is_done) in done {
            if I::IS_CHANGE && matches!(is_done, Ok(true)) {
                waiters.wake(key);
            }
        }
    }
}

/// How many of the first are of a record each, so that one statement can say which it was.
fn independent<I: Item>(items: &[I]) -> usize {
    let mut keys = HashSet::new();
    let some = items.iter().take(MOST);
    some.take_while(|item| keys.insert(item.owner().key))
        .count()
}

async fn run_alone<I: Item>(
    item: &I,
    session: &mut WriteSession,
) -> Result<Result<bool, StoreError>, Undone> {
    let now = Time::now();
    let statement = of_owner(I::alone(&session.statements).clone(), item.owner(), now);
    let statement = item.bind(statement, now);
    match statement.execute(&mut session.connection).await {
        Ok(written) => Ok(Ok(written.rows_affected() > 0)),
        Err(error) if is_of_one_statement(&error) => Ok(Err(store_error(error))),
        Err(error) => Err(Undone::WithItsGroup(error)),
    }
}

/// The records that were the owners'; `None`, with nothing done, when that cannot be said of all at once.
async fn run_together<I: Item>(
    items: &[I],
    session: &mut WriteSession,
) -> Result<Option<HashSet<RecordKey>>, Undone> {
    let Some(statement) = I::many(&session.statements).of(items.len()) else {
        return Ok(None);
    };
    if items.len() < 2 {
        return Ok(None);
    }
    let now = Time::now();
    let query = items.iter().fold(sqlx::query(statement), |query, item| {
        let query = query
            .bind(item.owner().key.as_bytes().to_vec())
            .bind(item.owner().token.as_bytes().to_vec())
            .bind(now.0);
        item.bind(query, now)
    });
    session.execute("SAVEPOINT idempotent_batch").await?;
    let written = query.fetch_all(&mut session.connection).await;
    let keys = written.and_then(|rows| rows.iter().map(key_of).collect());
    match keys {
        Ok(keys) => Ok(Some(keys)),
        Err(error) if is_of_one_statement(&error) => {
            session.execute("ROLLBACK TO idempotent_batch").await?;
            Ok(None)
        }
        Err(error) => Err(Undone::WithItsGroup(error)),
    }
}
