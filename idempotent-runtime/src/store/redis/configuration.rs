//! What about a server's settings can lose records.

use std::time::SystemTime;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Value, cmd};

use super::error::CallError;
use crate::store::{Finding, StoreError};

fn unchecked(what: &'static str, command: &'static str) -> Finding {
    Finding::warning(
        format!("{what} could not be checked, {command} is not allowed or not understood"),
        "a setting that loses records would go unnoticed",
        "check it manually, or allow the command to this user",
    )
}

/// Asks the server, or each primary of a Cluster. The worst first; what is good, too.
pub(super) async fn check(
    connection: &mut impl ConnectionLike,
) -> Result<Vec<Finding>, StoreError> {
    let info = ask::<Value>(connection, &cmd("INFO")).await?;
    let is_cluster_client = matches!(info, Some(Value::Map(_)));
    let servers = info.map(texts).unwrap_or_default();
    if servers.is_empty() {
        return Ok(vec![unchecked("role, memory and persistence", "INFO")]);
    }
    let settings = Settings {
        save: setting(connection, "save").await?,
        appendfsync: setting(connection, "appendfsync").await?,
        no_fsync_on_rewrite: setting(connection, "no-appendfsync-on-rewrite").await?,
        min_replicas: setting(connection, "min-replicas-to-write").await?,
    };
    let mut findings = Vec::from_iter(clock(connection).await?);
    for server in servers.iter().map(|text| ServerInfo { text }) {
        let cluster = server.cluster().filter(|_| !is_cluster_client);
        for finding in server.findings(&settings).into_iter().chain(cluster) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// What is no part of `INFO`; `None` where the server refuses to say.
#[derive(Default)]
struct Settings {
    save: Option<String>,
    appendfsync: Option<String>,
    no_fsync_on_rewrite: Option<String>,
    min_replicas: Option<String>,
}

async fn setting(
    connection: &mut impl ConnectionLike,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let get = cmd("CONFIG").arg("GET").arg(name).clone();
    let setting = ask::<(String, String)>(connection, &get).await?;
    Ok(setting.map(|(_, value)| value))
}

async fn clock(connection: &mut impl ConnectionLike) -> Result<Option<Finding>, StoreError> {
    let asked = SystemTime::now();
    let time = ask::<(i64, i64)>(connection, &cmd("TIME")).await?;
    Ok(time.map(|(seconds, micros)| Finding::of_clock(seconds * 1_000_000 + micros, asked)))
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
    fn findings(&self, settings: &Settings) -> Vec<Finding> {
        [
            self.version(),
            self.role(),
            self.eviction(),
            self.persistence(settings),
            self.replicas(settings),
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

    fn version(&self) -> Option<Finding> {
        let version = self.get("redis_version")?;
        let major: u32 = version.split('.').next()?.parse().ok()?;
        Some(match major {
            0..5 => Finding::danger(
                format!("the server is Redis {version}"),
                "its scripts cannot read the clock and write",
                "use Redis 5.0 or newer, or Valkey",
            ),
            _ => match self.get("valkey_version") {
                Some(version) => Finding::good(format!("the server is Valkey {version}")),
                None => Finding::good(format!("the server is Redis {version}")),
            },
        })
    }

    fn role(&self) -> Option<Finding> {
        match self.get("role") {
            Some("master") => Some(Finding::good("the server is the primary")),
            Some(_) => Some(Finding::danger(
                "the server is a replica",
                "it accepts no writes, and its data may be stale",
                "connect to the primary",
            )),
            None => Some(unchecked("the role", "INFO replication")),
        }
    }

    /// For a client that talks to one server.
    fn cluster(&self) -> Option<Finding> {
        (self.get("cluster_enabled") == Some("1")).then(|| {
            Finding::warning(
                "the server is one of a Cluster, and the connection is to this one only",
                "records of the other servers' slots cannot be reached, and their claims fail",
                "pass a `ClusterConnection` to `RedisStore::new`",
            )
        })
    }

    fn eviction(&self) -> Option<Finding> {
        match (self.get("maxmemory"), self.get("maxmemory_policy")) {
            (Some("0"), _) => Some(Finding::good("nothing is evicted: there is no `maxmemory`")),
            (_, Some("noeviction")) => Some(Finding::good("`maxmemory-policy` is `noeviction`")),
            (Some(_), Some(policy)) => Some(Finding::danger(
                format!("`maxmemory-policy` is `{policy}`"),
                "live records are dropped when memory is short, and a retry runs the handler again",
                "set it to `noeviction`, and keep caches on another server",
            )),
            _ => Some(unchecked("the eviction policy", "INFO memory")),
        }
    }

    fn persistence(&self, settings: &Settings) -> Option<Finding> {
        const FIX: &str = "set `appendonly yes`, and `appendfsync always` where money is at stake";
        match (self.get("aof_enabled"), settings.save.as_deref()) {
            (Some("1"), _) => Some(fsync(settings)),
            (Some(_), Some("")) => Some(Finding::danger(
                "nothing is written to disk (`appendonly no`, no `save`)",
                "a restart of the server loses every record, and a retry runs the handler again",
                FIX,
            )),
            (Some(_), Some(_)) => Some(Finding::warning(
                "there are snapshots only (`appendonly no`)",
                "a crash of the server loses the records since the last snapshot",
                FIX,
            )),
            (Some(_), None) => Some(Finding::warning(
                "there is no append-only file, and whether there are snapshots could not be checked: CONFIG is not allowed",
                "a crash of the server loses every record, or those since the last snapshot",
                FIX,
            )),
            (None, _) => Some(unchecked("persistence", "INFO persistence")),
        }
    }

    /// What a failover to a replica loses.
    fn replicas(&self, settings: &Settings) -> Option<Finding> {
        let replicas: u32 = self.get("connected_slaves")?.parse().ok()?;
        let required: u32 = settings.min_replicas.as_deref()?.parse().ok()?;
        if replicas == 0 && required == 0 {
            return None;
        }
        Some(match required {
            0 => Finding::note(
                format!("{replicas} replicas, and `min-replicas-to-write` is 0"),
                "a failover loses the records that the replica had not received, and a retry runs the handler again",
                "set `min-replicas-to-write 1` and `min-replicas-max-lag 10`, which bound the loss and do not prevent it",
            ),
            _ => Finding::good(format!(
                "{replicas} replicas, and writes need {required} of them"
            )),
        })
    }
}

fn fsync(settings: &Settings) -> Finding {
    const FIX: &str = "set `appendfsync always` where money is at stake";
    let pauses = settings.no_fsync_on_rewrite.as_deref() == Some("yes");
    match settings.appendfsync.as_deref() {
        Some("always" | "everysec") if pauses => Finding::warning(
            "`no-appendfsync-on-rewrite` is `yes`",
            "a power cut during a snapshot or a rewrite of the append-only file loses all records since that began",
            "set it to `no`",
        ),
        Some("always") => Finding::good("`appendonly yes`, `appendfsync always`"),
        Some("no") => Finding::warning(
            "`appendfsync` is `no`",
            "a power cut loses the records of the last half minute or more",
            FIX,
        ),
        Some(other) => Finding::note(
            format!("`appendonly yes`, `appendfsync {other}`"),
            "a power cut loses the records of the last one or two seconds, and so does a crash of the server while its disk is slow",
            FIX,
        ),
        None => Finding::note(
            "`appendonly yes`; `appendfsync` could not be checked: CONFIG is not allowed",
            "unless it is `always`, a power cut loses the records of the last one or two seconds",
            FIX,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

    fn findings(info: &str, save: Option<&str>) -> Vec<String> {
        let settings = Settings {
            save: save.map(str::to_owned),
            appendfsync: Some("always".to_owned()),
            no_fsync_on_rewrite: Some("no".to_owned()),
            min_replicas: Some("0".to_owned()),
        };
        let findings = ServerInfo { text: info }.findings(&settings);
        findings
            .iter()
            .filter(|finding| finding.severity > Severity::Good)
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
