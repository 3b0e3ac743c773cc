//! The statements, with the table's name in its place and their parameters bound.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlArguments;
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, MySql, SqlSafeStr, SqlStr};

use super::row::Row;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::ClaimRequest;
use crate::store::sql::{TableName, uncommented};
use crate::store::transaction::TransactionRequest;

pub(super) type Statement = Query<'static, MySql, MySqlArguments>;

/// Whether a lock was taken; `None` when the server cannot tell.
pub(super) type Lock = QueryAs<'static, MySql, (Option<i64>,), MySqlArguments>;

pub(super) const SESSION: &str = include_str!("session.sql");

/// One for each operation, made once: what is cached on a connection is found by its text.
pub(super) struct Statements {
    create_table: SqlStr,
    read: SqlStr,
    /// The same with the progress.
    get: SqlStr,
    insert: SqlStr,
    reclaim: SqlStr,
    take_over: SqlStr,
    save_progress: SqlStr,
    complete: SqlStr,
    record: SqlStr,
    completed_by: SqlStr,
    release: SqlStr,
    remove: SqlStr,
    purge: SqlStr,
    enter: SqlStr,
    /// With `{key}` still to be put in.
    pub(super) leave: String,
    /// The smallest first.
    many: [ManyStatements; 3],
}

/// The statements about this many claims at once. Whoever has fewer repeats the last one, so that a
/// connection prepares a few statements and not one for every number of claims.
struct ManyStatements {
    claims: usize,
    renew: SqlStr,
    held: SqlStr,
}

impl Statements {
    /// The most owners that one statement takes.
    pub(super) const MOST_OWNERS: usize = 256;

    pub(super) fn new(table: &TableName) -> Self {
        let of = |template: &str| prepared(table, template);
        let many = |claims| {
            let owners = vec!["record_key = ? AND token = ?"; claims].join(" OR ");
            let of_owners = |template: &str| of(&template.replace("{owners}", &owners));
            ManyStatements {
                claims,
                renew: of_owners(include_str!("renew.sql")),
                held: of_owners(include_str!("held.sql")),
            }
        };
        let read = include_str!("read.sql");
        Self {
            create_table: of(include_str!("create_table.sql")),
            read: of(&read.replace("{progress}", "NULL")),
            get: of(&read.replace("{progress}", "progress")),
            insert: of(include_str!("insert.sql")),
            reclaim: of(include_str!("reclaim.sql")),
            take_over: of(include_str!("take_over.sql")),
            save_progress: of(include_str!("save_progress.sql")),
            complete: of(include_str!("complete.sql")),
            record: of(include_str!("record.sql")),
            completed_by: of(include_str!("completed_by.sql")),
            release: of(include_str!("release.sql")),
            remove: of(include_str!("remove.sql")),
            purge: of(include_str!("purge.sql")),
            enter: of(include_str!("enter.sql")),
            leave: table.in_statement(&uncommented(include_str!("leave.sql"))),
            many: [many(1), many(16), many(Self::MOST_OWNERS)],
        }
    }

    pub(super) fn schema(table: &TableName) -> Statement {
        sqlx::query(include_str!("schema.sql")).bind(table.to_string())
    }

    pub(super) fn create_table(&self) -> Statement {
        statement(&self.create_table)
    }

    pub(super) fn read(&self, key: &RecordKey) -> Statement {
        statement(&self.read).bind(&key.as_bytes()[..])
    }

    pub(super) fn get(&self, key: &RecordKey) -> Statement {
        statement(&self.get).bind(&key.as_bytes()[..])
    }

    pub(super) fn insert(&self, request: &ClaimRequest) -> Statement {
        statement(&self.insert)
            .bind(&request.owner.key.as_bytes()[..])
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&request.owner.token.as_bytes()[..])
            .bind(micros(request.lease))
            .bind(micros(request.ttl))
    }

    pub(super) fn reclaim(&self, request: &ClaimRequest) -> Statement {
        statement(&self.reclaim)
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&request.owner.token.as_bytes()[..])
            .bind(micros(request.lease))
            .bind(micros(request.ttl))
            .bind(&request.owner.key.as_bytes()[..])
    }

    pub(super) fn take_over(&self, request: &ClaimRequest, seen: &Row) -> Statement {
        statement(&self.take_over)
            .bind(&request.owner.token.as_bytes()[..])
            .bind(seen.next_attempt())
            .bind(micros(request.lease))
            .bind(micros(request.ttl))
            .bind(&request.owner.key.as_bytes()[..])
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&seen.token.as_bytes()[..])
            .bind(seen.attempt)
    }

    pub(super) fn save_progress(&self, owner: &Owner, progress: &[u8]) -> Statement {
        let length = u64::try_from(progress.len()).unwrap_or(u64::MAX);
        let save = statement(&self.save_progress).bind(length).bind(progress);
        bind_owner(save, owner)
    }

    pub(super) fn complete(&self, owner: &Owner, status: u16, response: &[u8]) -> Statement {
        let complete = statement(&self.complete).bind(status).bind(response);
        bind_owner(complete, owner)
    }

    pub(super) fn record(
        &self,
        request: &TransactionRequest,
        status: u16,
        response: &[u8],
    ) -> Statement {
        let record = statement(&self.record).bind(status).bind(response);
        bind_owner(record.bind(micros(request.ttl)), &request.owner)
    }

    pub(super) fn completed_by(&self, owner: &Owner) -> Statement {
        bind_owner(statement(&self.completed_by), owner)
    }

    pub(super) fn release(&self, owner: &Owner) -> Statement {
        bind_owner(statement(&self.release), owner)
    }

    pub(super) fn remove(&self, key: &RecordKey) -> Statement {
        statement(&self.remove).bind(&key.as_bytes()[..])
    }

    pub(super) fn enter(&self, key: &RecordKey) -> Lock {
        sqlx::query_as(self.enter.clone()).bind(key.as_bytes().to_vec())
    }

    pub(super) fn purge(&self, limit: usize) -> Statement {
        statement(&self.purge).bind(u64::try_from(limit).unwrap_or(u64::MAX))
    }

    /// For at most [`MOST_OWNERS`](Self::MOST_OWNERS).
    pub(super) fn renew(&self, owners: &[Owner], lease: Duration) -> Statement {
        let many = self.many(owners.len());
        let renew = statement(&many.renew)
            .bind(micros(lease))
            .bind(micros(lease));
        many.bind(renew, owners)
    }

    /// For at most [`MOST_OWNERS`](Self::MOST_OWNERS).
    pub(super) fn held(&self, owners: &[Owner]) -> Statement {
        let many = self.many(owners.len());
        many.bind(statement(&many.held), owners)
    }

    fn many(&self, claims: usize) -> &ManyStatements {
        let [one, some, most] = &self.many;
        [one, some]
            .into_iter()
            .find(|many| many.claims >= claims)
            .unwrap_or(most)
    }
}

impl ManyStatements {
    fn bind(&self, statement: Statement, owners: &[Owner]) -> Statement {
        let last = owners.last().into_iter().cycle();
        let owners = owners.iter().chain(last).take(self.claims);
        owners.fold(statement, bind_owner)
    }
}

fn statement(text: &SqlStr) -> Statement {
    sqlx::query(text.clone())
}

fn bind_owner(statement: Statement, owner: &Owner) -> Statement {
    statement
        .bind(&owner.key.as_bytes()[..])
        .bind(&owner.token.as_bytes()[..])
}

/// Never more than a thousand years, so that no sum leaves what a DATETIME can be.
fn micros(time: Duration) -> i64 {
    const MOST: i64 = 1000 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(time.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}

/// Without the comments, which the server need not parse. The only thing put into a template from
/// outside is the table's name, and that is a plain identifier.
fn prepared(table: &TableName, template: &str) -> SqlStr {
    let statement = table.in_statement(&uncommented(template));
    AssertSqlSafe(Arc::<str>::from(statement)).into_sql_str()
}
