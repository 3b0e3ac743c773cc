//! Many claims by one statement, and many completions.
//!
//! Each statement goes to SQLite's thread and back, which takes longer than what is done there. So
//! the claims of a group are one statement, and so are its completions, as long as all of them do
//! what they mostly do: write. If one does not, they are run one at a time, each to its own answer.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr, Sqlite};

use super::claims::TryClaim;
use super::failure::is_of_one_statement;
use super::operations::Complete;
use super::row::Time;
use super::session::Session;
use super::writer::Job;
use crate::key::RecordKey;
use crate::store::sql::{TableName, uncommented};

/// How many rows the statements have: each is prepared once, and used for all numbers up to it that
/// are too many for the one before.
const ROWS: [usize; 4] = [2, 8, 32, 64];

/// The number of rows of the largest.
pub(super) const MOST: usize = 64;

/// Longer responses are stored one at a time: SQLite makes a copy of those of a statement.
pub(super) const LONGEST: usize = 16 * 1024;

/// An operation of which many can be done at once.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    /// One that takes nothing over.
    Claim(&'a TryClaim),
    Complete(&'a Complete),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Claim,
    Complete,
}

impl<'a> Plain<'a> {
    pub(super) fn claim(claim: &'a TryClaim) -> Option<Self> {
        claim.take_over.is_none().then_some(Self::Claim(claim))
    }

    pub(super) fn complete(complete: &'a Complete) -> Option<Self> {
        complete.is_short().then_some(Self::Complete(complete))
    }

    fn kind(self) -> Kind {
        match self {
            Self::Claim(_) => Kind::Claim,
            Self::Complete(_) => Kind::Complete,
        }
    }

    fn key(self) -> RecordKey {
        match self {
            Self::Claim(claim) => claim.owner.key,
            Self::Complete(complete) => complete.owner.key,
        }
    }
}

/// The statements of one kind, by the number of their rows.
#[derive(Clone)]
pub(super) struct Batches([(usize, SqlStr); ROWS.len()]);

impl Batches {
    pub(super) fn new(table: &TableName, template: &str, columns: usize) -> Self {
        let template = table.in_statement(&uncommented(template));
        // Without numbers, which would be looked up one by one.
        let row = format!("({})", vec!["?"; columns].join(","));
        Self(ROWS.map(|rows| {
            let statement = template.replace("{rows}", &vec![row.as_str(); rows].join(","));
            // Nothing but question marks is put in.
            let statement = AssertSqlSafe(Arc::<str>::from(statement)).into_sql_str();
            (rows, statement)
        }))
    }

    /// The smallest that has as many rows.
    pub(super) fn of(&self, number: usize) -> Option<SqlStr> {
        let fits = self.0.iter().find(|(rows, _)| *rows >= number);
        fits.map(|(_, statement)| statement.clone())
    }
}

/// How many of the first jobs can be done in any order: they are plain, and of a record each.
fn independent(jobs: &[Box<dyn Job>]) -> usize {
    let mut keys = HashSet::new();
    let plain = jobs.iter().map_while(|job| job.plain());
    plain.take_while(|it| keys.insert(it.key())).count()
}

/// Runs them all, in their order where that matters.
pub(super) async fn run(
    mut jobs: &mut [Box<dyn Job>],
    session: &mut Session,
) -> Result<(), sqlx::Error> {
    while !jobs.is_empty() {
        let (some, others) = jobs.split_at_mut(independent(jobs).max(1));
        jobs = others;
        if let [job] = some {
            job.run(session).await?;
            continue;
        }
        for kind in [Kind::Claim, Kind::Complete] {
            let is_of_kind = |job: &&mut Box<dyn Job>| job.plain().map(Plain::kind) == Some(kind);
            let mut of_kind: Vec<_> = some.iter_mut().filter(is_of_kind).collect();
            for together in of_kind.chunks_mut(MOST) {
                run_together(kind, together, session).await?;
            }
        }
    }
    Ok(())
}

async fn run_together(
    kind: Kind,
    jobs: &mut [&mut Box<dyn Job>],
    session: &mut Session,
) -> Result<(), sqlx::Error> {
    if jobs.len() > 1 && have_written(kind, jobs, session).await? {
        jobs.iter_mut().for_each(|job| job.has_written());
        return Ok(());
    }
    // A claim that has written all the same may be repeated: it is its own.
    for job in jobs {
        job.run(session).await?;
    }
    Ok(())
}

/// Whether every one has; if not, no completion has, so that its answer can still be told from that to
/// a repeated one.
async fn have_written(
    kind: Kind,
    jobs: &[&mut Box<dyn Job>],
    session: &mut Session,
) -> Result<bool, sqlx::Error> {
    let Some(query) = query(kind, jobs, session) else {
        return Ok(false);
    };
    if kind == Kind::Complete {
        session.execute("SAVEPOINT idempotent_batch").await?;
    }
    let have_all = match query.execute(&mut session.connection).await {
        Ok(written) => usize::try_from(written.rows_affected()) == Ok(jobs.len()),
        Err(error) if is_of_one_statement(&error) => false,
        Err(error) => return Err(error),
    };
    if kind == Kind::Complete && !have_all {
        session.execute("ROLLBACK TO idempotent_batch").await?;
    }
    Ok(have_all)
}

fn query(
    kind: Kind,
    jobs: &[&mut Box<dyn Job>],
    session: &Session,
) -> Option<Query<'static, Sqlite, SqliteArguments>> {
    let statements = match kind {
        Kind::Claim => &session.statements.claim_all,
        Kind::Complete => &session.statements.complete_all,
    };
    let now = Time::now();
    let query = sqlx::query(statements.of(jobs.len())?);
    let rows = jobs.iter().filter_map(|job| job.plain());
    Some(rows.fold(query, |query, row| match row {
        Plain::Claim(claim) => {
            let times = claim.times(now);
            query
                .bind(claim.owner.key.as_bytes().to_vec())
                .bind(claim.fingerprint.as_bytes().to_vec())
                .bind(claim.owner.token.as_bytes().to_vec())
                .bind(claim.operation.clone())
                .bind(claim.label.clone())
                .bind(now.0)
                .bind(times.lease_until.0)
                .bind(times.expires_at.0)
                .bind(times.purge_at.0)
        }
        Plain::Complete(complete) => {
            let (expires_at, purge_at_most) = complete.expiry(now);
            query
                .bind(complete.owner.key.as_bytes().to_vec())
                .bind(complete.owner.token.as_bytes().to_vec())
                .bind(now.0)
                .bind(complete.status)
                .bind(complete.response.clone())
                .bind(expires_at.0)
                .bind(purge_at_most.0)
        }
    }))
}
