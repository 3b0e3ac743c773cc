//! What about a server's settings can lose records.

use std::borrow::Cow;
use std::fmt;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Value, cmd};

use super::error::CallError;
use crate::store::StoreError;

/// Something about the server that can lose records, or stop the store from working.
///
/// It displays as one line for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigurationWarning {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: Cow<'static, str>,
    /// What it can lead to.
    pub why: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// How bad a [`ConfigurationWarning`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// It depends on what is at stake, or it could not be checked.
    Warning,
    /// Records get lost in ordinary operation, or the store does not work.
    Danger,
}

impl fmt::Display for ConfigurationWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.fix)
    }
}

impl ConfigurationWarning {
    fn danger(what: impl Into<Cow<'static, str>>, why: &'static str, fix: &'static str) -> Self {
        Self {
            severity: Severity::Danger,
            what: what.into(),
            why,
            fix,
        }
    }

    fn warning(what: impl Into<Cow<'static, str>>, why: &'static str, fix: &'static str) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::danger(what, why, fix)
        }
    }

    fn unchecked(what: &'static str, command: &'static str) -> Self {
        Self::warning(
            format!("{what} could not be checked, {command} is not allowed or not understood"),
            "a setting that loses records would go unnoticed",
            "check it manually, or allow the command to this user",
        )
    }
}

/// Asks the server, or each primary of a Cluster.
pub(super) async fn check(
    connection: &mut impl ConnectionLike,
) -> Result<Vec<ConfigurationWarning>, StoreError> {
    let info = ask::<Value>(connection, &cmd("INFO")).await?;
    let is_cluster_client = matches!(info, Some(Value::Map(_)));
    let servers = info.map(texts).unwrap_or_default();
    if servers.is_empty() {
        return Ok(vec![ConfigurationWarning::unchecked(
            "role, memory and persistence",
            "INFO",
        )]);
    }
    let save = ask::<(String, String)>(connection, cmd("CONFIG").arg("GET").arg("save")).await?;
    let save = save.map(|(_, points)| points);
    let mut findings = Vec::new();
    for server in servers.iter().map(|text| ServerInfo { text }) {
        let cluster = server.cluster().filter(|_| !is_cluster_client);
        for finding in server.findings(save.as_deref()).into_iter().chain(cluster) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// `None` when the server refuses to say, or says what is not understood.
async fn ask<T: FromRedisValue>(
    connection: &mut impl ConnectionLike,
    command: &Cmd,
) -> Result<Option<T>, StoreError> {
    match command.query_async(connection).await {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(CallError::of_one_try(error).into()),
    }
}

/// Not if it lets no client in without a password: it would refuse everything else too.
fn is_refusal(error: &RedisError) -> bool {
    let is_let_in = error.code() != Some("NOAUTH");
    let is_refusal = matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
    );
    is_let_in && is_refusal
}

/// One server's text, or those of several.
fn texts(reply: Value) -> Vec<String> {
    match reply {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
        Value::VerbatimString { text, .. } => vec![text],
        Value::Map(servers) => servers
            .into_iter()
            .flat_map(|(_, reply)| texts(reply))
            .collect(),
        _ => Vec::new(),
    }
}

/// What one server tells about itself.
struct ServerInfo<'a> {
    text: &'a str,
}

impl ServerInfo<'_> {
    fn findings(&self, save: Option<&str>) -> Vec<ConfigurationWarning> {
        [
            self.version(),
            self.role(),
            self.eviction(),
            self.persistence(save),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    }

    fn version(&self) -> Option<ConfigurationWarning> {
        let version = self.get("redis_version")?;
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major < 5).then(|| {
            ConfigurationWarning::danger(
                format!("the server is Redis {version}"),
                "its scripts cannot read the clock and write",
                "use Redis 5.0 or newer, or Valkey",
            )
        })
    }

    fn role(&self) -> Option<ConfigurationWarning> {
        match self.get("role") {
            Some("master") => None,
            Some(_) => Some(ConfigurationWarning::danger(
                "the server is a replica",
                "it takes no writes, and what it shows is late",
                "connect to the primary",
            )),
            None => Some(ConfigurationWarning::unchecked(
                "the role",
                "INFO replication",
            )),
        }
    }

    /// For a client that talks to one server.
    fn cluster(&self) -> Option<ConfigurationWarning> {
        (self.get("cluster_enabled") == Some("1")).then(|| {
            ConfigurationWarning::warning(
                "the server is one of a Cluster, and the connection is to this one only",
                "records of the other servers' slots cannot be reached, and their claims fail",
                "pass a `ClusterConnection` to `RedisStore::new`",
            )
        })
    }

    fn eviction(&self) -> Option<ConfigurationWarning> {
        match (self.get("maxmemory"), self.get("maxmemory_policy")) {
            (Some("0"), _) | (_, Some("noeviction")) => None,
            (Some(_), Some(policy)) => Some(ConfigurationWarning::danger(
                format!("`maxmemory-policy` is `{policy}`"),
                "live records are dropped when memory is short, and a retry runs the handler again",
                "set it to `noeviction`, and keep caches on another server",
            )),
            _ => Some(ConfigurationWarning::unchecked(
                "the eviction policy",
                "INFO memory",
            )),
        }
    }

    fn persistence(&self, save: Option<&str>) -> Option<ConfigurationWarning> {
        const FIX: &str = "set `appendonly yes`, and `appendfsync always` where money is at stake";
        match (self.get("aof_enabled"), save) {
            (Some("1"), _) => None,
            (Some(_), Some("")) => Some(ConfigurationWarning::danger(
                "nothing is written to disk (`appendonly no`, no `save`)",
                "a restart of the server forgets every key, and a retry runs the handler again",
                FIX,
            )),
            (Some(_), Some(_)) => Some(ConfigurationWarning::warning(
                "there are snapshots only (`appendonly no`)",
                "a crash of the server forgets the keys since the last snapshot",
                FIX,
            )),
            (Some(_), None) => Some(ConfigurationWarning::warning(
                "there is no append-only file, and whether there are snapshots could not be checked, CONFIG is not allowed",
                "a crash of the server forgets every key, or those since the last snapshot",
                FIX,
            )),
            (None, _) => Some(ConfigurationWarning::unchecked(
                "persistence",
                "INFO persistence",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(info: &str, save: Option<&str>) -> Vec<String> {
        let findings = ServerInfo { text: info }.findings(save);
        findings
            .iter()
            .map(|finding| format!("{:?} {}", finding.severity, finding.what))
            .collect()
    }

    const SAFE: &str = "# Server\r\nredis_version:7.2.4\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";

    #[test]
    fn safe_server_has_no_findings() {
        assert_eq!(findings(SAFE, Some("")), [""; 0]);
        assert_eq!(findings(SAFE, None), [""; 0]);
    }

    #[test]
    fn eviction_without_a_limit_evicts_nothing() {
        let info = SAFE.replace("noeviction", "allkeys-lru");
        assert_eq!(findings(&info, None), [""; 0]);
        let info = info.replace("maxmemory:0", "maxmemory:1000");
        assert_eq!(
            findings(&info, None),
            ["Danger `maxmemory-policy` is `allkeys-lru`"]
        );
    }

    #[test]
    fn old_server_is_told_by_its_number() {
        let info = SAFE.replace("7.2.4", "4.0.14");
        assert_eq!(findings(&info, None), ["Danger the server is Redis 4.0.14"]);
        let info = SAFE.replace("7.2.4", "10.0.0");
        assert_eq!(findings(&info, None), [""; 0]);
    }

    #[test]
    fn what_is_not_told_is_not_taken_for_good() {
        assert_eq!(findings("# Server\r\n", Some("")).len(), 3);
    }

    #[test]
    fn each_primary_of_a_cluster_is_looked_at() {
        let reply = |text: &str| Value::BulkString(text.into());
        let map = Value::Map(vec![
            (reply("a:1"), reply("one")),
            (reply("b:1"), reply("two")),
        ]);
        assert_eq!(texts(map), ["one", "two"]);
    }
}
