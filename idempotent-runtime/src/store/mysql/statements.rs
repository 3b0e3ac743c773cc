//! The statements, with the table's name in its place and their parameters bound.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, MySql, SqlSafeStr, SqlStr};

use super::batches::Locked;
use super::place::Place;
use super::row::Row;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::ClaimRequest;
use crate::store::listing::LOOK;
use crate::store::sql::uncommented;

pub(super) type Statement = Query<'static, MySql, MySqlArguments>;

pub(super) const SESSION: &str = include_str!("sql/session.sql");
pub(super) const UNLOCK: &str = include_str!("sql/unlock.sql");
pub(super) const HANDLER_SESSION: &str = include_str!("sql/handler_session.sql");

/// One for each operation, made once: what is cached on a connection is found by its text.
pub(super) struct Statements {
    create_table: SqlStr,
    read: SqlStr,
    /// The same with the progress and the operation.
    get: SqlStr,
    insert: SqlStr,
    reclaim: SqlStr,
    take_over: SqlStr,
    give_grace: SqlStr,
    save_progress: SqlStr,
    saved_bytes: SqlStr,
    complete: SqlStr,
    record: SqlStr,
    completed_by: SqlStr,
    list: SqlStr,
    list_uncompleted: SqlStr,
    remove: SqlStr,
    enter: String,
    pub(super) prepare: SqlStr,
    pub(super) leave: SqlStr,
    many: ManyStatements,
}

/// The statements about many records. They are sent as text, with the keys in them: there is no end to the
/// number of keys, and what is only a few bytes each needs no preparing.
struct ManyStatements {
    lock: String,
    look: String,
    renew: String,
    abandon: String,
    delete: String,
    expired: String,
}

impl Statements {
    pub(super) fn new(place: &Place) -> Self {
        let of = |template: &str| prepared(&place.in_statement(&uncommented(template)));
        let many = |template: &str| place.in_statement(&uncommented(template));
        let read = include_str!("sql/read.sql");
        let list = uncommented(include_str!("sql/list.sql"));
        let state = uncommented(include_str!("sql/session_state.sql"));
        let with_state = |template: &str| of(&template.replace("{session}", &state));
        Self {
            create_table: of(include_str!("sql/create_table.sql")),
            read: of(&read.replace("{details}", "NULL, NULL, NULL")),
            get: of(&read.replace("{details}", "progress, operation, label")),
            insert: of(include_str!("sql/insert.sql")),
            reclaim: of(include_str!("sql/reclaim.sql")),
            take_over: of(include_str!("sql/take_over.sql")),
            give_grace: of(include_str!("sql/give_grace.sql")),
            save_progress: of(include_str!("sql/save_progress.sql")),
            saved_bytes: of(include_str!("sql/saved_bytes.sql")),
            complete: of(include_str!("sql/complete.sql")),
            record: of(include_str!("sql/record.sql")),
            completed_by: of(include_str!("sql/completed_by.sql")),
            list: of(&list.replace("{which}", "FORCE INDEX (PRIMARY) WHERE")),
            list_uncompleted: of(
                &list.replace("{which}", "FORCE INDEX ({table}_state) WHERE state = 1 AND")
            ),
            remove: of(include_str!("sql/remove.sql")),
            enter: uncommented(include_str!("sql/enter.sql")),
            prepare: with_state(include_str!("sql/prepare.sql")),
            leave: with_state(include_str!("sql/leave.sql")),
            many: ManyStatements {
                lock: many(include_str!("sql/lock.sql")),
                look: many(include_str!("sql/look.sql")),
                renew: many(include_str!("sql/renew.sql")),
                abandon: many(include_str!("sql/abandon.sql")),
                delete: many(include_str!("sql/delete.sql")),
                expired: many(include_str!("sql/expired.sql")),
            },
        }
    }

    pub(super) fn schema(place: &Place) -> Statement {
        let schema = sqlx::query(include_str!("sql/schema.sql"));
        let schema = schema.bind(place.database().map(str::to_owned));
        schema.bind(place.table().to_string())
    }

    /// What makes the table, as text.
    pub(super) fn migrations(&self) -> String {
        format!("{};\n", self.create_table.as_str())
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

    pub(super) fn insert(&self, request: &ClaimRequest<'_>) -> Statement {
        let insert = statement(&self.insert)
            .bind(&request.owner.key.as_bytes()[..])
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&request.owner.token.as_bytes()[..])
            .bind(request.operation.to_owned())
            .bind(request.label.map(str::to_owned));
        bind_times(insert, request)
    }

    pub(super) fn reclaim(&self, request: &ClaimRequest<'_>) -> Statement {
        let reclaim = statement(&self.reclaim)
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&request.owner.token.as_bytes()[..])
            .bind(request.operation.to_owned())
            .bind(request.label.map(str::to_owned));
        bind_times(reclaim, request).bind(&request.owner.key.as_bytes()[..])
    }

    pub(super) fn take_over(&self, request: &ClaimRequest<'_>, seen: &Row) -> Statement {
        let take_over = statement(&self.take_over)
            .bind(&request.owner.token.as_bytes()[..])
            .bind(seen.next_attempt());
        bind_times(take_over, request)
            .bind(&request.owner.key.as_bytes()[..])
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(seen.token.map(|token| token.as_bytes().to_vec()))
            .bind(seen.attempt)
    }

    pub(super) fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Statement {
        statement(&self.give_grace)
            .bind(micros(grace))
            .bind(micros(grace.saturating_add(retention)))
            .bind(key.as_bytes().to_vec())
            .bind(attempt)
    }

    pub(super) fn save_progress(&self, owner: &Owner, offset: usize, bytes: &[u8]) -> Statement {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let save = statement(&self.save_progress).bind(bytes).bind(offset);
        bind_owner(save, owner)
            .bind(offset)
            .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
    }

    pub(super) fn saved_bytes(&self, owner: &Owner) -> Statement {
        bind_owner(statement(&self.saved_bytes), owner)
    }

    pub(super) fn complete(
        &self,
        owner: &Owner,
        status: u16,
        response: &[u8],
        ttl: Duration,
    ) -> Statement {
        let complete = statement(&self.complete).bind(status).bind(response);
        bind_owner(complete.bind(micros(ttl)), owner)
    }

    pub(super) fn record(
        &self,
        owner: &Owner,
        status: u16,
        response: &[u8],
        ttl: Duration,
    ) -> Statement {
        let record = statement(&self.record).bind(status).bind(response);
        bind_owner(record.bind(micros(ttl)), owner)
    }

    pub(super) fn completed_by(&self, owner: &Owner) -> Statement {
        bind_owner(statement(&self.completed_by), owner)
    }

    /// So many records after a key; all of them, or those that are not completed.
    pub(super) fn list(&self, lists_completed: bool, after: &RecordKey) -> Statement {
        let list = match lists_completed {
            true => &self.list,
            false => &self.list_uncompleted,
        };
        statement(list)
            .bind(after.as_bytes().to_vec())
            .bind(LOOK as u64)
    }

    pub(super) fn remove(&self, key: &RecordKey) -> Statement {
        statement(&self.remove).bind(&key.as_bytes()[..])
    }

    /// Locks the first of a request's records, with the limit of the session, or another one.
    pub(super) fn enter(&self, lock: &str, limit: Option<Duration>) -> SqlStr {
        // A lock's name is digits and letters.
        let enter = self.enter.replace("{lock}", lock);
        match limit {
            Some(limit) => text(format!("{}; {enter}", session_limit(limit))),
            None => text(enter),
        }
    }

    /// Begins a transaction that has locked these records.
    pub(super) fn lock(&self, keys: &[RecordKey], locked: Locked) -> SqlStr {
        let lock = with_keys(&self.many.lock, keys);
        let locked = match locked {
            Locked::Skip => " SKIP LOCKED",
            Locked::Wait => "",
        };
        text(format!("{}{lock}{locked}", begin_briefly()))
    }

    pub(super) fn look(&self, keys: &[RecordKey]) -> SqlStr {
        text(with_keys(&self.many.look, keys))
    }

    /// Commits such a transaction after these statements.
    pub(super) fn commit(statements: &[String]) -> SqlStr {
        let mut all = statements.join("; ");
        if !all.is_empty() {
            all.push_str("; ");
        }
        text(all + COMMIT)
    }

    pub(super) fn renew(&self, keys: &[RecordKey], lease: Duration, life: Duration) -> String {
        let renew = self.many.renew.replace("{lease}", &number(lease));
        with_keys(&renew.replace("{life}", &number(life)), keys)
    }

    pub(super) fn abandon(&self, keys: &[RecordKey]) -> String {
        with_keys(&self.many.abandon, keys)
    }

    pub(super) fn delete(&self, key: &RecordKey) -> String {
        self.many.delete.replace("{key}", &literal(key))
    }

    /// Begins a transaction that has locked at most so many expired records.
    pub(super) fn lock_expired(&self, limit: usize) -> SqlStr {
        let expired = self.many.expired.replace("{limit}", &limit.to_string());
        text(begin_briefly() + &expired)
    }
}

/// How long the server waits between the two messages of a transaction of this store's own.
const BETWEEN_TWO_MESSAGES: Duration = Duration::from_secs(5);

/// The most that the server takes for `wait_timeout` on every system, in seconds.
const MOST_SECS: u64 = 2_147_483;

pub(super) fn session_limit(limit: Duration) -> String {
    let secs = limit.as_secs().clamp(1, MOST_SECS).to_string();
    uncommented(include_str!("sql/session_limit.sql")).replace("{secs}", &secs)
}

fn begin_briefly() -> String {
    session_limit(BETWEEN_TWO_MESSAGES) + "; START TRANSACTION; "
}

const COMMIT: &str = "COMMIT; SET wait_timeout = @idempotent_wait_timeout";

fn statement(text: &SqlStr) -> Statement {
    sqlx::query(text.clone())
}

fn bind_owner(statement: Statement, owner: &Owner) -> Statement {
    statement
        .bind(&owner.key.as_bytes()[..])
        .bind(&owner.token.as_bytes()[..])
}

/// The end of the lease and of the record.
fn bind_times(statement: Statement, request: &ClaimRequest<'_>) -> Statement {
    let life = request.lease.saturating_add(request.retention);
    statement.bind(micros(request.lease)).bind(micros(life))
}

/// Never more than a thousand years, so that no sum leaves what a DATETIME can be.
fn micros(time: Duration) -> i64 {
    const MOST: i64 = 1000 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(time.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}

fn number(time: Duration) -> String {
    micros(time).to_string()
}

/// The keys are digits, so that they can stand in a statement as they are.
fn with_keys(template: &str, keys: &[RecordKey]) -> String {
    let mut literals = String::with_capacity(keys.len() * (size_of::<RecordKey>() * 2 + 4));
    for key in keys {
        let separator = if literals.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(literals, "{separator}{}", literal(key));
    }
    template.replace("{keys}", &literals)
}

fn literal(key: &RecordKey) -> String {
    format!("X'{}'", key.to_hex())
}

/// The only things put into a template from outside are names, quoted or plain, numbers, and digits.
fn text(statement: String) -> SqlStr {
    AssertSqlSafe(statement).into_sql_str()
}

fn prepared(statement: &str) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(statement)).into_sql_str()
}
