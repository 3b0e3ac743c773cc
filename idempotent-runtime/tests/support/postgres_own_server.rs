//! A PostgreSQL server that no other test uses, from the programs that are installed.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use idempotent_runtime::Token;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

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
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Self {
            programs,
            data,
            port,
        };
        let data = server.data.as_os_str();
        run(
            &server.programs,
            "initdb",
            [
                OsStr::new("-A"),
                "trust".as_ref(),
                "-U".as_ref(),
                "postgres".as_ref(),
                "-N".as_ref(),
                "-D".as_ref(),
                data,
            ],
        );
        server.start_again();
        Some(server)
    }

    /// As it was stopped.
    pub(crate) fn start_again(&self) {
        let port = self.port;
        let quiet = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c autovacuum=off -c checkpoint_timeout=1d -c wal_level=minimal -c max_wal_senders=0"
        );
        run(
            &self.programs,
            "pg_ctl",
            [
                OsStr::new("-w"),
                "-D".as_ref(),
                self.data.as_os_str(),
                "-o".as_ref(),
                quiet.as_ref(),
                "start".as_ref(),
            ],
        );
    }

    /// Ends all connections.
    #[allow(dead_code, reason = "not every test that starts a server")]
    pub(crate) fn stop(&self) {
        run(
            &self.programs,
            "pg_ctl",
            [
                OsStr::new("-w"),
                "-m".as_ref(),
                "fast".as_ref(),
                "-D".as_ref(),
                self.data.as_os_str(),
                "stop".as_ref(),
            ],
        );
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
        let data = self.data.as_os_str();
        run(
            &self.programs,
            "pg_ctl",
            [
                OsStr::new("-m"),
                "immediate".as_ref(),
                "-D".as_ref(),
                data,
                "stop".as_ref(),
            ],
        );
        drop(std::fs::remove_dir_all(&self.data));
    }
}

/// The newest version's.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.filter(|bin| bin.join("initdb").exists()).max()
}

/// The server refuses to run as root.
fn run<const N: usize>(programs: &Path, program: &str, arguments: [&OsStr; N]) {
    let program = programs.join(program);
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
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{}",
        program.display()
    );
}
