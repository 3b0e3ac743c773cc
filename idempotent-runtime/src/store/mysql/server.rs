//! Which server it is, and whether its settings keep what was acknowledged: for the log at connect, and for
//! [`check`](super::check).

use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row as _};

use crate::store::Finding;

const FOREIGN: &str =
    "it speaks MySQL's protocol and has neither InnoDB nor its locks, on which this store relies";

/// What is said of the server itself.
///
/// # Errors
///
/// [`sqlx::Error`] when it cannot be asked.
pub(super) async fn server(connection: &mut MySqlConnection) -> sqlx::Result<Finding> {
    let version: String = sqlx::query_scalar("SELECT CAST(VERSION() AS CHAR)")
        .fetch_one(connection)
        .await?;
    Ok(of_version(&version))
}

fn of_version(version: &str) -> Finding {
    let foreign = ["TiDB", "Vitess", "SingleStore", "OceanBase"];
    if let Some(name) = foreign.into_iter().find(|name| version.contains(name)) {
        return Finding::danger(
            format!("the server is {name}, which is not supported"),
            FOREIGN,
            "use MySQL or MariaDB, or another store",
        );
    }
    let (name, oldest) = match version.contains("MariaDB") {
        true => ("MariaDB", (10, 6)),
        false => ("MySQL", (8, 0)),
    };
    let mut numbers = version
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let number: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match number < oldest {
        true => Finding::danger(
            format!("the server is {name} {version}"),
            "its SQL is too old for this store",
            "use MySQL 8.0 or newer, or MariaDB 10.6 or newer",
        ),
        false => Finding::good(format!("the server is {name} {version}")),
    }
}

/// Whether it is a server with which nothing else is looked at.
pub(super) fn is_foreign(finding: &Finding) -> bool {
    finding.why == FOREIGN
}

/// The settings that decide whether what was acknowledged is still there after a crash of the server.
pub(super) async fn settings(connection: &mut MySqlConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query(
        "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED), \
         CAST(@@sync_binlog AS SIGNED), CAST(@@innodb_doublewrite AS CHAR), CAST(@@read_only AS CHAR), \
         CAST(@@binlog_format AS CHAR)",
    );
    of_settings(&row.fetch_one(connection).await?)
}

fn of_settings(row: &MySqlRow) -> sqlx::Result<Vec<Finding>> {
    let (flush, has_binlog, sync): (i64, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (doublewrite, read_only): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    let format: String = row.try_get(5)?;
    let is_off = |value: &str| matches!(value, "0" | "OFF");
    let mut findings = vec![flushing(flush)];
    if has_binlog != 0 {
        findings.push(match sync {
            1 => Finding::good("`sync_binlog` is 1"),
            _ => Finding::warning(
                format!("`sync_binlog` is {sync}"),
                "after a power cut replicas can have what the server has not, or the other way round",
                "set it to 1",
            ),
        });
    }
    if has_binlog != 0 && format == "STATEMENT" {
        findings.push(Finding::danger(
            "`binlog_format` is STATEMENT",
            "InnoDB refuses to write under READ COMMITTED, and every request is answered 503",
            "set it to ROW or MIXED",
        ));
    }
    findings.push(match is_off(&doublewrite) {
        true => Finding::warning(
            "`innodb_doublewrite` is off",
            "a power cut in the middle of a write damages pages, unless the file system writes them whole",
            "switch it on",
        ),
        false => Finding::good("`innodb_doublewrite` is on"),
    });
    findings.push(match is_off(&read_only) {
        true => Finding::good("the server takes writes"),
        false => Finding::danger(
            "the server is read-only",
            "it is a replica, or is being switched over, and takes no claims",
            "connect to the primary",
        ),
    });
    Ok(findings)
}

fn flushing(flush: i64) -> Finding {
    match flush {
        1 => Finding::good("`innodb_flush_log_at_trx_commit` is 1"),
        2 => Finding::warning(
            "`innodb_flush_log_at_trx_commit` is 2",
            "a power cut forgets the keys of about the last second, and their requests run again",
            "set it to 1",
        ),
        other => Finding::danger(
            format!("`innodb_flush_log_at_trx_commit` is {other}"),
            "a crash of the server forgets the keys of about the last second, and their requests run again",
            "set it to 1",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

    #[test]
    fn servers_are_known_by_their_version() {
        for (version, severity) in [
            ("8.0.36", Severity::Good),
            ("9.1.0", Severity::Good),
            ("5.7.44-log", Severity::Danger),
            ("10.11.6-MariaDB-0+deb12u1", Severity::Good),
            ("10.5.9-MariaDB", Severity::Danger),
            ("8.0.11-TiDB-v7.5.0", Severity::Danger),
        ] {
            assert_eq!(of_version(version).severity, severity, "{version}");
        }
        assert!(is_foreign(&of_version("8.0.11-TiDB-v7.5.0")));
    }

    #[test]
    fn what_is_not_flushed_at_each_commit_is_told() {
        assert_eq!(flushing(1).severity, Severity::Good);
        assert_eq!(flushing(2).severity, Severity::Warning);
        assert_eq!(flushing(0).severity, Severity::Danger);
    }
}
