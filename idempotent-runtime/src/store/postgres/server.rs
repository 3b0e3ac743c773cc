//! Which server it is, and whether its settings keep what was acknowledged: for the log at connect, and for
//! [`check`](super::check).

use sqlx::PgConnection;

use crate::store::Finding;

/// The oldest server that the statements are written for, as `server_version_num` has it.
const OLDEST: i32 = 120_000;

const FOREIGN: &str = "it speaks PostgreSQL's protocol and has neither its functions nor its locks, on which this store relies";

/// What is said of the server itself.
///
/// # Errors
///
/// [`sqlx::Error`] when it cannot be asked.
pub(super) async fn server(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let version = sqlx::query_scalar("SELECT version()");
    let version: String = version.fetch_one(&mut *connection).await?;
    if let Some(finding) = foreign(&version) {
        return Ok(finding);
    }
    let number = sqlx::query_scalar("SELECT current_setting('server_version_num')::int");
    let number: i32 = number.fetch_one(connection).await?;
    let name = version.split(" on ").next().unwrap_or_default().to_owned();
    Ok(match number < OLDEST {
        true => Finding::danger(
            format!("the server is {name}"),
            "its SQL is too old for this store",
            "use PostgreSQL 12 or newer",
        ),
        false => Finding::good(format!("the server is {name}")),
    })
}

/// A server that only looks like PostgreSQL.
fn foreign(version: &str) -> Option<Finding> {
    let name = ["CockroachDB", "Redshift", "Materialize", "CrateDB"]
        .into_iter()
        .find(|name| version.contains(name))?;
    Some(Finding::danger(
        format!("the server is {name}, which is not supported"),
        FOREIGN,
        "use PostgreSQL, or another store",
    ))
}

/// Whether it is a server with which nothing else is looked at.
pub(super) fn is_foreign(finding: &Finding) -> bool {
    finding.why == FOREIGN
}

/// The settings that decide whether what was acknowledged is still there after a crash of the server.
pub(super) async fn settings(connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await?;
        findings.push(match &*value {
            "off" => Finding::danger(
                format!("`{setting}` is off"),
                "a crash of the server forgets keys, and their requests run again",
                "set it to `on`, for the server, the database and the role",
            ),
            _ => Finding::good(format!("`{setting}` is {value}")),
        });
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

    #[test]
    fn cockroach_is_refused_in_a_sentence() {
        let version = "CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27)";
        let finding = foreign(version).unwrap();
        assert_eq!(finding.severity, Severity::Danger);
        assert!(is_foreign(&finding));
        assert!(
            finding
                .to_string()
                .starts_with("the server is CockroachDB, which is not supported: ")
        );
        assert_eq!(foreign("PostgreSQL 15.4 on x86_64-pc-linux-gnu"), None);
    }
}
