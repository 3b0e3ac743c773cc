//! A PostgreSQL server that no other test uses, from the programs that are installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use idempotent_runtime::Token;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::free_port::free_port;
use crate::support::skip;

/// Stopped, and its files removed, when it is dropped.
pub(crate) struct OwnServer {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
}

impl OwnServer {
    /// `None`, with a line that says so, when the programs are not there. Not a failure in
    /// continuous integration: a server in a container comes without them.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skip("no `initdb` in `/usr/lib/postgresql/*/bin`");
            return None;
        };
        let random = u128::from_ne_bytes(*Token::random().unwrap().as_bytes());
        let data = std::env::temp_dir().join(format!("idempotent-postgres-{random:032x}"));
        let server = Self {
            programs,
            data,
            port: free_port(),
        };
        let made = server.run("initdb", &["-A", "trust", "-U", "postgres", "-N"]);
        assert!(made, "no data");
        server.start_again();
        Some(server)
    }

    /// As it was stopped.
    pub(crate) fn start_again(&self) {
        let port = self.port;
        let quiet = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c autovacuum=off -c checkpoint_timeout=1d -c wal_level=minimal -c max_wal_senders=0"
        );
        let log = self.data.join("log");
        let to_log = log.to_str().unwrap();
        let patient = ["-w", "-t", "300", "-l", to_log, "-o", &quiet, "start"];
        let started = self.run("pg_ctl", &patient);
        assert!(started, "{:?}", std::fs::read_to_string(&log));
    }

    /// Ends all connections.
    #[allow(dead_code, reason = "not every test that starts a server")]
    pub(crate) fn stop(&self) {
        let stopped = self.run("pg_ctl", &["-w", "-t", "300", "-m", "fast", "stop"]);
        assert!(stopped, "it goes on");
    }

    /// Whether the program succeeded. The server refuses to run as root.
    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let program = self.programs.join(program);
        let is_root = Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|id| id.stdout == b"0\n");
        let mut command = if is_root {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let status = command
            .arg("-D")
            .arg(&self.data)
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// From when it reads its settings the next time.
    #[allow(dead_code, reason = "not every test that starts a server")]
    pub(crate) fn ask_for_passwords(&self) {
        let all = "host all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.data.join("pg_hba.conf"), all).unwrap();
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-m", "immediate", "stop"]);
        drop(std::fs::remove_dir_all(&self.data));
    }
}

/// The newest version's.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.filter(|bin| bin.join("initdb").exists()).max()
}
