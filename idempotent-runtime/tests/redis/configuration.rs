//! What the check of the configuration finds.

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Finding, Severity};
use tracing::Level;

use super::logged::Log;
use super::support::{AS_USER, Server, store_at, with_user};

async fn check(settings: &[&str], parameters: &str) -> Option<Vec<String>> {
    let server = Server::start(settings).await?;
    let store = store_at(&format!("{}{parameters}", server.url())).await;
    let findings = store.check_configuration().await.unwrap();
    let line = |finding: &Finding| {
        assert!(finding.to_string().ends_with(finding.fix));
        match finding.severity {
            Severity::Danger => format!("danger: {}", finding.what),
            _ => format!("warning: {}", finding.what),
        }
    };
    Some(findings.iter().map(line).collect())
}

#[tokio::test]
async fn the_check_finds_what_loses_records() {
    const FILE: [&str; 2] = ["--appendonly", "yes"];
    for (settings, expected) in [
        (FILE.to_vec(), vec![]),
        (
            [
                &FILE[..],
                &["--maxmemory", "1gb", "--maxmemory-policy", "volatile-ttl"],
            ]
            .concat(),
            vec!["danger: `maxmemory-policy` is `volatile-ttl`"],
        ),
        (
            [
                &FILE[..],
                &["--maxmemory", "1gb", "--maxmemory-policy", "noeviction"],
            ]
            .concat(),
            vec![],
        ),
        (
            [&FILE[..], &["--maxmemory-policy", "allkeys-lru"]].concat(),
            vec![],
        ),
        (
            [
                &FILE[..],
                &["--appendfsync", "always"],
                &["--no-appendfsync-on-rewrite", "yes"],
            ]
            .concat(),
            vec!["warning: `no-appendfsync-on-rewrite` is `yes`"],
        ),
        (
            vec![],
            vec!["danger: nothing is written to disk (`appendonly no`, no `save`)"],
        ),
        (
            vec!["--save", "3600 1"],
            vec!["warning: there are snapshots only (`appendonly no`)"],
        ),
        (
            [&FILE[..], &["--replicaof", "127.0.0.1 1"]].concat(),
            vec!["danger: the server is a replica"],
        ),
        (
            [&FILE[..], &["--cluster-enabled", "yes"]].concat(),
            vec!["warning: the server is one of a Cluster, and the connection is to this one only"],
        ),
    ] {
        let Some(findings) = check(&settings, "").await else {
            return;
        };
        assert_eq!(findings, expected, "{settings:?}");
    }
}

#[tokio::test]
async fn the_check_says_what_it_may_not_look_at() {
    let weak = with_user("~* +@all -config");
    let blind = with_user("~* +@all -config -info");
    let renamed = ["--rename-command", "CONFIG", ""];
    for (settings, parameters, expected) in [
        (
            &weak[..],
            AS_USER,
            "whether there are snapshots could not be checked",
        ),
        (
            &renamed[..],
            "",
            "whether there are snapshots could not be checked",
        ),
        (
            &blind[..],
            AS_USER,
            "role, memory and persistence could not be checked",
        ),
    ] {
        let Some(findings) = check(settings, parameters).await else {
            return;
        };
        let [finding] = &findings[..] else {
            panic!("{findings:?}");
        };
        assert!(
            finding.starts_with("warning: ") && finding.contains(expected),
            "{finding}"
        );
    }
}

/// Nothing was said, and its claims could not be completed.
#[tokio::test]
async fn the_check_says_which_commands_are_refused() {
    const SAFE: [&str; 2] = ["--appendonly", "yes"];
    let documented = "~idempotent:* ~idempotent-test-* &idempotent:done +set +get +getrange +strlen +eval +evalsha \
        +setrange +pttl +pexpire +del +publish +subscribe +scan +info +time +config|get";
    let enough = [&with_user(documented)[..], &SAFE].concat();
    let without_scripts = [&with_user("~* +@all -eval -evalsha")[..], &SAFE].concat();
    let read_only = [&with_user("%R~* +@all")[..], &SAFE].concat();
    let renamed = [&["--rename-command", "EVALSHA", ""][..], &SAFE].concat();
    for (settings, parameters, expected) in [
        (enough, AS_USER, None),
        (without_scripts, AS_USER, Some("EVAL, EVALSHA")),
        (
            read_only,
            AS_USER,
            Some("SET, SETRANGE, PEXPIRE, DEL, EVAL, EVALSHA"),
        ),
        (renamed, "", Some("EVALSHA")),
    ] {
        let Some(findings) = check(&settings, parameters).await else {
            return;
        };
        let refused = |what| format!("danger: the server does not let this user run {what}");
        assert_eq!(findings, Vec::from_iter(expected.map(refused)));
    }
}

#[tokio::test]
async fn connect_logs_what_the_check_finds() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (log, _guard) = Log::begin(Level::WARN);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let findings = store.check_configuration().await.unwrap();
    let expected: Vec<String> = findings
        .iter()
        .map(|finding| format!("redis store: {finding}"))
        .collect();
    assert!(
        expected
            .iter()
            .any(|line| line.contains("nothing is written to disk")),
        "{expected:?}"
    );
    let logged = log.lines();
    let ours = logged.iter().filter_map(|line| {
        let line = line.get(line.find("redis store: ")?..)?;
        line.rsplit_once(" severity=").map(|(said, _)| said)
    });
    assert_eq!(ours.collect::<Vec<_>>(), expected, "{logged:?}");
}
