//! What PostgreSQL itself can do: the statements of a claim and a completion, sent by pgbench.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::Failure;
use crate::numbers::{LEASE, RETENTION, TTL, response};

/// How many pairs of the two statements, one commit each, go through in a second.
pub(super) async fn pairs_per_second(
    pgbench: &Path,
    url: &str,
    clients: u32,
    length: Duration,
) -> Result<f64, Failure> {
    let file = std::env::temp_dir().join(format!("idempotent-pgbench-{}", std::process::id()));
    tokio::fs::write(&file, script()).await?;
    let ran = Command::new(pgbench)
        .args(["--no-vacuum", "--protocol=prepared", "--random-seed=rand"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", length.as_secs().max(1)))
        .arg("--file")
        .arg(&file)
        .arg(url)
        .output()
        .await;
    tokio::fs::remove_file(&file).await?;
    let output = ran?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rest| rest.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("pgbench failed: {said}{complaint}").into()
    })
}

/// The statements are `claim.sql` and `complete.sql` of the store, with keys made by the server.
fn script() -> String {
    let answer: String = response()
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (lease, retention, ttl) = (LEASE.as_micros(), RETENTION.as_micros(), TTL.as_micros());
    let purge = lease + ttl;
    format!(
        "\\set id random(1, 9223372036854775806)\n\
         SELECT outcome, attempt_number, age_us, lease_left_us, answer FROM idempotency_records_claim(\
         sha256(int8send(:id)), sha256(int8send(:id)), substring(sha256(int8send(:id)) FOR 16), 'POST /payments', {lease}, {retention}, {purge}, NULL);\n\
         SELECT outcome FROM idempotency_records_complete(\
         sha256(int8send(:id)), substring(sha256(int8send(:id)) FOR 16), 201::smallint, '\\x{answer}'::bytea, {ttl});\n"
    )
}
