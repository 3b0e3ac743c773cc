//! Many claims by one statement, and many completions.
//!
//! Each statement goes to SQLite's thread and back, which takes longer than what is done there. So
//! the claims of a group are one statement, and so are its completions, as long as all of them do
//! what they mostly do: write. If one does not, they are run one at a time, each to its own answer.

use std::collections::HashSet;

use super::batches::MOST;
use super::error::is_of_one_statement;
use super::job::{Batchable, Job, Kind};
use super::session::WriteSession;
use super::statements::Statement;
use super::time::Time;

/// How many of the first jobs can be done in any order: they are batchable, and of a record each.
fn independent(jobs: &[Box<dyn Job>]) -> usize {
    let mut keys = HashSet::new();
    let batchable = jobs.iter().map_while(|job| job.batchable());
    batchable.take_while(|it| keys.insert(it.key())).count()
}

/// Runs them all, in their order where that matters.
pub(super) async fn run(
    mut jobs: &mut [Box<dyn Job>],
    session: &mut WriteSession,
) -> Result<(), sqlx::Error> {
    while !jobs.is_empty() {
        let (some, others) = jobs.split_at_mut(independent(jobs).max(1));
        jobs = others;
        if let [job] = some {
            job.run(session).await?;
            continue;
        }
        for kind in [Kind::Claim, Kind::Complete] {
            let is_of_kind =
                |job: &&mut Box<dyn Job>| job.batchable().map(Batchable::kind) == Some(kind);
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
    session: &mut WriteSession,
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
    session: &mut WriteSession,
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

fn query(kind: Kind, jobs: &[&mut Box<dyn Job>], session: &WriteSession) -> Option<Statement> {
    let statements = match kind {
        Kind::Claim => &session.statements.claim_all,
        Kind::Complete => &session.statements.complete_all,
    };
    let now = Time::now();
    let query = sqlx::query(statements.of(jobs.len())?);
    let rows = jobs.iter().filter_map(|job| job.batchable());
    Some(rows.fold(query, |query, row| row.bind(query, now)))
}
