//! The load generator.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("wrk.lua");

/// Connections that are kept open, each with one request under way.
pub(super) const CONNECTIONS: u32 = 64;

/// How many keys `replays` are of.
pub(super) const KEYS: u32 = 10_000;

pub(super) struct Wrk {
    program: PathBuf,
    script: PathBuf,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) mode: &'a str,
    pub(super) body: &'a Body,
    /// Eight characters that no other load of the same server begins its keys with.
    pub(super) prefix: &'a str,
    pub(super) with_session: bool,
    pub(super) seconds: u32,
}

impl Load<'_> {
    /// The one request that all replays are of, by itself: 64 at once would run into each other.
    pub(super) fn first_of_replays(&self) -> String {
        let (prefix, text) = (self.prefix, &self.body.text);
        let cookie = if self.with_session {
            format!("cookie: session={prefix}-000000000000A\r\n")
        } else {
            String::new()
        };
        format!(
            "POST /payments HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             idempotency-key: {prefix}-0000-4000-8000-000000000000\r\n{cookie}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    }
}

/// A payment that is as long as it is asked to be.
#[derive(Debug)]
pub(super) struct Body {
    text: String,
    file: PathBuf,
}

impl Body {
    pub(super) fn new(bytes: u32, folder: &Path) -> Result<Self, String> {
        let head =
            r#"{"amount":4200,"currency":"EUR","order_id":"order-0123456789","note":""#.to_owned();
        let note = "n".repeat(bytes as usize - head.len() - 2);
        let (text, file) = (head + &note + "\"}", folder.join(format!("body-{bytes}")));
        fs::write(&file, &text).map_err(|error| format!("cannot write a body: {error}"))?;
        Ok(Self { text, file })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) requests: f64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Wrk {
    pub(super) fn new(program: PathBuf, folder: &Path) -> Result<Self, String> {
        let script = folder.join("wrk.lua");
        fs::write(&script, SCRIPT)
            .map_err(|error| format!("cannot write wrk's script: {error}"))?;
        Ok(Self { program, script })
    }

    /// Puts load on a server; an answer that is an error is one of ours too.
    pub(super) fn run(&self, address: SocketAddr, load: &Load<'_>) -> Result<Outcome, String> {
        let output = Command::new(&self.program)
            .arg("--threads=1")
            .arg(format!("--connections={CONNECTIONS}"))
            .arg(format!("--duration={}s", load.seconds))
            .arg("--timeout=10s")
            .arg("--script")
            .arg(&self.script)
            .arg(format!("http://{address}/payments"))
            .args(["--", load.mode, load.prefix])
            .arg(&load.body.file)
            .arg(if load.with_session { "session" } else { "-" })
            .arg(KEYS.to_string())
            .output()
            .map_err(|error| format!("cannot run wrk: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = || {
            format!(
                "wrk failed: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        };
        let result = said.lines().find_map(|line| line.strip_prefix("RESULT "));
        let numbers = result.ok_or_else(complaint)?.split_whitespace();
        let numbers: Vec<f64> = numbers.flat_map(str::parse).collect();
        let &[requests, micros, bad_answers, failures, p50_us, p99_us] = numbers.as_slice() else {
            return Err(complaint());
        };
        if requests < 1.0 || bad_answers > 0.0 || failures > 0.0 {
            return Err(format!(
                "{bad_answers} of {requests} answers were errors, {failures} did not come"
            ));
        }
        Ok(Outcome {
            requests,
            seconds: micros / 1e6,
            p50_us,
            p99_us,
        })
    }
}
