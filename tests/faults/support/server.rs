//! Database servers that can be killed and started again on what they have left.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::workspace::{self, find, is_root, tail};
use super::{BOUND, Kind};

/// A server with its data.
pub struct Server {
    pub kind: Kind,
    folder: PathBuf,
    port: u16,
    process: Mutex<Child>,
}

/// The server that the tests of one kind share unless they want to kill it. `None`, and one line
/// that says so, where it is not installed.
pub fn shared(kind: Kind) -> Option<&'static Server> {
    static SHARED: [OnceLock<Option<Server>>; 3] = [const { OnceLock::new() }; 3];
    let kind = kind.server();
    SHARED[kind as usize]
        .get_or_init(|| Server::start(kind))
        .as_ref()
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadbd",
            Self::Sqlite | Self::Deadpool => unreachable!("it has no server of its own"),
        }
    }
}

impl Server {
    /// A new server with a database `test`.
    ///
    /// # Panics
    ///
    /// When its program is missing where tests must not be skipped: under `CI=true`.
    pub fn start(kind: Kind) -> Option<Self> {
        let program = kind.program();
        if find(program).is_none() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "no `{program}`"
            );
            // Not by a macro, whose output is kept from whom it is for when the test passes.
            let line = format!("skipped: faults of {kind:?}, because there is no `{program}`\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let folder = workspace::folder(program);
        prepare(kind, &folder);
        let port = super::free_port::free_port();
        let server = Self {
            kind,
            process: Mutex::new(launch(kind, &folder, port)),
            folder,
            port,
        };
        server.wait_until_ready();
        if kind == Kind::Postgres {
            server.sql("CREATE DATABASE test");
        }
        Some(server)
    }

    pub fn url(&self, database: &str) -> String {
        url(self.kind, self.port, database)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `kill -9` does: nothing is flushed, no client is told.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().expect("a server");
        process.wait().expect("a server");
        workspace::forget(process.id());
    }

    /// Starts it again, on the same data and port.
    pub fn restart(&self) {
        *self.process.lock().unwrap() = launch(self.kind, &self.folder, self.port);
        self.wait_until_ready();
    }

    /// Runs SQL as an operator, and returns its output's lines.
    pub fn sql(&self, statements: &str) -> Vec<String> {
        self.try_sql(statements)
            .unwrap_or_else(|said| panic!("{statements}: {said}"))
    }

    /// As [`sql`](Self::sql); all statements are tried, and the error is what the server said of
    /// those that failed.
    pub fn try_sql(&self, statements: &str) -> Result<Vec<String>, String> {
        let (program, arguments, execute) = match self.kind {
            Kind::Postgres => ("psql", "-X -q -t -A -U postgres -d postgres", "--command"),
            _ => ("mariadb", "--no-defaults -N --force -u root", "--execute"),
        };
        let output = Command::new(find(program).expect("a client of the server"))
            .args(arguments.split(' '))
            .args(["--host=127.0.0.1", &format!("--port={}", self.port)])
            .args([execute, statements])
            .output()
            .expect("a client of the server");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.lines().map(str::to_owned).collect())
    }

    fn wait_until_ready(&self) {
        let started = Instant::now();
        while !self.is_ready() {
            let log = || tail(&self.folder.join("log"));
            assert!(
                started.elapsed() < BOUND,
                "{:?} does not start:\n{}",
                self.kind,
                log()
            );
            let mut process = self.process.lock().unwrap();
            if process.try_wait().expect("a process").is_some() {
                // After a crash the remains of the one before may be in the way for a moment.
                workspace::forget(process.id());
                *process = launch(self.kind, &self.folder, self.port);
            }
            drop(process);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self) -> bool {
        match self.kind {
            // It takes connections before it serves them.
            Kind::Postgres => self.try_sql("SELECT 1").is_ok(),
            _ => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The URL of a database on a port, which may be a proxy's.
pub fn url(kind: Kind, port: u16, database: &str) -> String {
    match kind.server() {
        Kind::Redis => format!("redis://127.0.0.1:{port}"),
        Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/{database}"),
        _ => format!("mysql://root@127.0.0.1:{port}/{database}"),
    }
}

fn prepare(kind: Kind, folder: &Path) {
    let data = folder.join("data");
    match kind {
        Kind::Postgres => {
            if is_root() {
                run(Command::new("chown").arg("postgres").arg(folder));
            }
            let mut init = command_as_postgres("initdb", folder);
            init.args(["--username=postgres", "--auth=trust", "--no-sync"]);
            init.args(["--encoding=UTF8", "--locale=C", "--pgdata"]);
            run(init.arg(data));
        }
        Kind::MariaDb => {
            let mut init = command("mariadb-install-db", folder);
            init.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
            init.args(["--skip-test-db", mariadb_user()]);
            // In a shared folder a server that starts removes another one's temporary tables.
            init.arg(format!("--tmpdir={}", folder.display()));
            run(init.arg(format!("--datadir={}", data.display())));
            let script = "CREATE DATABASE IF NOT EXISTS test;\n";
            fs::write(folder.join("init.sql"), script).expect("a script");
        }
        _ => {}
    }
}

fn launch(kind: Kind, folder: &Path, port: u16) -> Child {
    let in_folder = |name| folder.join(name).display().to_string();
    let port = port.to_string();
    let mut server = match kind {
        Kind::Redis => {
            let mut server = command("redis-server", folder);
            server.args(["--bind", "127.0.0.1", "--save", "", "--port", &port]);
            server.args(["--appendonly", "yes", "--appendfsync", "always"]);
            server
        }
        Kind::Postgres => {
            let mut server = command_as_postgres("postgres", folder);
            server.args(["-D", &in_folder("data"), "-k", &in_folder(""), "-p", &port]);
            server.args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ]);
            server
        }
        _ => {
            let mut server = command("mariadbd", folder);
            server.args(["--no-defaults", "--bind-address=127.0.0.1", mariadb_user()]);
            server.args(["--max-connections=300", "--innodb-buffer-pool-size=32M"]);
            server.arg(format!("--datadir={}", in_folder("data")));
            server.arg(format!("--tmpdir={}", in_folder("")));
            server.arg(format!("--socket={}", in_folder("socket")));
            server.arg(format!("--init-file={}", in_folder("init.sql")));
            server.arg(format!("--port={port}"));
            server
        }
    };
    let log = File::options()
        .create(true)
        .append(true)
        .open(in_folder("log"));
    let log = log.expect("a log");
    let process = server
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("a server");
    workspace::adopt(process.id());
    process
}

fn mariadb_user() -> &'static str {
    if is_root() {
        "--user=root"
    } else {
        "--skip-name-resolve"
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| panic!("no `{program}`")));
    command.current_dir(folder);
    command
}

/// PostgreSQL refuses to run as root.
fn command_as_postgres(program: &str, folder: &Path) -> Command {
    let plain = command(program, folder);
    if !is_root() {
        return plain;
    }
    let mut other = command("setpriv", folder);
    other.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    other.arg(plain.get_program());
    other
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
