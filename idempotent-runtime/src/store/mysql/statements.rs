//! The statements, with the table's name in its place and their parameters bound.

use std::time::Duration;

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, MySql, SqlSafeStr, SqlStr};

use super::table::QualifiedTable;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::listing::LOOK;
use crate::store::row::Row;
use crate::store::sql::{micros, prepared, uncommented};
use crate::store::{ClaimRequest, ListFilter};

pub(super) type Statement = Query<'static, MySql, MySqlArguments>;

pub(super) const SESSION: &str = include_str!("sql/session.sql");
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
    list: Lists,
    /// The same with their sizes.
    list_sizes: Lists,
    remove: SqlStr,
}

/// Listing, in two orders of looking.
struct Lists {
    all: SqlStr,
    uncompleted: SqlStr,
}

/// The column of `list.sql` that is long in coming.
const SIZE: &str = "CAST(COALESCE(OCTET_LENGTH(response), OCTET_LENGTH(progress), 0) AS SIGNED)";

impl Lists {
    fn new(list: &str, of: impl Fn(&str) -> SqlStr) -> Self {
        let which = |which: &str| of(&list.replace("{which}", which));
        Self {
            all: which("FORCE INDEX (PRIMARY) WHERE"),
            uncompleted: which("FORCE INDEX ({table}_state) WHERE state = 1 AND"),
        }
    }
}

impl Statements {
    pub(super) fn new(table: &QualifiedTable) -> Self {
        let of = |template: &str| prepared(table.in_statement(&uncommented(template)));
        let read = include_str!("sql/read.sql");
        let list = uncommented(include_str!("sql/list.sql"));
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
            list: Lists::new(&list.replace("{size}", "CAST(0 AS SIGNED)"), of),
            list_sizes: Lists::new(&list.replace("{size}", SIZE), of),
            remove: of(include_str!("sql/remove.sql")),
        }
    }

    pub(super) fn schema(table: &QualifiedTable) -> Statement {
        let schema = sqlx::query(include_str!("sql/schema.sql"));
        let schema = schema.bind(table.database().map(str::to_owned));
        schema.bind(table.name().to_string())
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
            .bind(request.label.map(str::to_owned))
            .bind(request.first_progress().map(<[u8]>::to_vec));
        bind_times(insert, request)
    }

    pub(super) fn reclaim(&self, request: &ClaimRequest<'_>) -> Statement {
        let reclaim = statement(&self.reclaim)
            .bind(&request.fingerprint.as_bytes()[..])
            .bind(&request.owner.token.as_bytes()[..])
            .bind(request.operation.to_owned())
            .bind(request.label.map(str::to_owned))
            .bind(request.first_progress().map(<[u8]>::to_vec));
        bind_times(reclaim, request).bind(&request.owner.key.as_bytes()[..])
    }

    pub(super) fn take_over(&self, request: &ClaimRequest<'_>, seen: &Row<&[u8]>) -> Statement {
        let take_over = statement(&self.take_over)
            .bind(&request.owner.token.as_bytes()[..])
            .bind(seen.attempt.saturating_add(1));
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

    /// `latest` is how long ago, at most, the record was made.
    pub(super) fn record(
        &self,
        owner: &Owner,
        (status, response): (u16, &[u8]),
        latest: Duration,
        ttl: Duration,
    ) -> Statement {
        let record = statement(&self.record).bind(status).bind(response);
        bind_owner(record.bind(micros(latest)).bind(micros(ttl)), owner)
    }

    pub(super) fn completed_by(&self, owner: &Owner) -> Statement {
        bind_owner(statement(&self.completed_by), owner)
    }

    /// So many records after a key; all of them, or those that are not completed.
    pub(super) fn list(&self, filter: &ListFilter, after: &RecordKey) -> Statement {
        let lists = match filter.sizes {
            true => &self.list_sizes,
            false => &self.list,
        };
        let list = match filter.lists_completed() {
            true => &lists.all,
            false => &lists.uncompleted,
        };
        statement(list)
            .bind(after.as_bytes().to_vec())
            .bind(LOOK as u64)
    }

    pub(super) fn remove(&self, key: &RecordKey) -> Statement {
        statement(&self.remove).bind(&key.as_bytes()[..])
    }
}

/// The most that the server takes for `wait_timeout` on every system, in seconds.
const MOST_SECS: u64 = 2_147_483;

pub(super) fn session_limit(limit: Duration) -> String {
    let secs = limit.as_secs().clamp(1, MOST_SECS).to_string();
    uncommented(include_str!("sql/session_limit.sql")).replace("{secs}", &secs)
}

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

/// The only things put into a template from outside are names, quoted or plain, numbers, and digits.
pub(super) fn text(statement: String) -> SqlStr {
    AssertSqlSafe(statement).into_sql_str()
}
