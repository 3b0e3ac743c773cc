//! A MariaDB server that no other test uses, from the programs that are installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::claims::PATIENCE;
use crate::free_port::free_port;
use crate::servers::{skip, table};

/// Stopped, and its files removed, when it is dropped.
pub(crate) struct OwnServer {
    folder: PathBuf,
    port: u16,
    settings: Vec<&'static str>,
    process: Child,
}

impl OwnServer {
    /// With these settings. `None`, with a line that says so, when the programs are not there; in
    /// continuous integration that is a failure.
    pub(crate) async fn start(settings: &[&'static str]) -> Option<Self> {
        if find("mariadbd").is_none() || find("mariadb-install-db").is_none() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "no `mariadbd`"
            );
            skip("no `mariadbd`");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("idempotent-mariadb-{}", table()));
        fs::create_dir(&folder).unwrap();
        let mut init = command("mariadb-install-db", &folder);
        init.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
        init.args(["--skip-test-db", user()]);
        init.arg(format!("--tmpdir={}", folder.display()));
        init.arg(format!("--datadir={}", folder.join("data").display()));
        let output = init.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let port = free_port();
        let mut server = Self {
            process: launch(&folder, port, settings),
            folder,
            port,
            settings: settings.to_vec(),
        };
        server.wait_until_ready().await;
        Some(server)
    }

    /// As an administrator, whom no `read_only` stops.
    pub(crate) fn options(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("root")
    }

    /// As `kill -9` does, and started again on the same data and port.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.folder, self.port, &self.settings);
        self.wait_until_ready().await;
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn wait_until_ready(&mut self) {
        let started = Instant::now();
        loop {
            if let Ok(connection) = self.options().connect().await {
                drop(connection.close().await);
                return;
            }
            let log = || fs::read_to_string(self.folder.join("log")).unwrap();
            assert!(started.elapsed() < PATIENCE, "{}", log());
            if self.process.try_wait().unwrap().is_some() {
                // After a crash the remains of the one before may be in the way for a moment.
                self.process = launch(&self.folder, self.port, &self.settings);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn launch(folder: &Path, port: u16, settings: &[&str]) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    command("mariadbd", folder)
        .args(["--no-defaults", "--bind-address=127.0.0.1", user()])
        .args(["--innodb-buffer-pool-size=32M", "--skip-name-resolve"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--tmpdir={}", folder.display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--port={port}"))
        .args(settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn user() -> &'static str {
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    if is_root {
        "--user=root"
    } else {
        "--skip-name-resolve"
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(find(program).unwrap());
    command.current_dir(folder);
    command
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut files = std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}
