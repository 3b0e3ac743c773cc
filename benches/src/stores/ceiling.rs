//! What PostgreSQL itself can do: a claim and a completion as they would be written without this crate, on a table
//! with nothing but a primary key, sent by pgbench.

use std::path::Path;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

use crate::Failure;
use crate::numbers::{TTL, response};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS plain_keys (key bytea PRIMARY KEY, request_hash bytea NOT NULL, \
    token bytea NOT NULL, state smallint NOT NULL, status smallint, response bytea, expires_at timestamptz NOT NULL)";

/// How many pairs of the two statements, one commit each, go through in a second.
pub(super) async fn pairs_per_second(
    pgbench: &Path,
    url: &str,
    clients: u32,
    length: Duration,
) -> Result<f64, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(TABLE).execute(&mut connection).await?;
    connection.close().await?;
    let file = std::env::temp_dir().join(format!("idempotent-pgbench-{}", std::process::id()));
    tokio::fs::write(&file, script()).await?;
    let ran = Command::new(pgbench)
        .args(["--no-vacuum", "--protocol=prepared", "--random-seed=rand"])
        .arg(format!("--client={clients}"))
        .arg(format!("--define=answer={}", answer()))
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

/// With keys made by the server. The response is a parameter, as is all that pgbench calls a variable.
fn script() -> String {
    let ttl_secs = TTL.as_secs();
    format!(
        "\\set id random(1, 9223372036854775806)\n\
         INSERT INTO plain_keys (key, request_hash, token, state, expires_at) VALUES (\
         sha256(int8send(:id)), sha256(int8send(:id)), substring(sha256(int8send(:id)) FOR 16), 1, now() + interval '30 days') \
         ON CONFLICT DO NOTHING RETURNING 1;\n\
         UPDATE plain_keys SET state = 2, status = 201, response = :answer, expires_at = now() + interval '{ttl_secs} s' \
         WHERE key = sha256(int8send(:id)) AND token = substring(sha256(int8send(:id)) FOR 16) AND state = 1;\n"
    )
}

/// As the text of a `bytea`.
fn answer() -> String {
    let bytes = response().encode();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", hex.collect::<String>())
}
