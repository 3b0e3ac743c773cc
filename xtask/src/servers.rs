//! The servers that tests talk to: found or installed, started on free ports in a temporary folder,
//! and stopped by their process id.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::complain;
use crate::free_port::free_port;
use crate::guard::{self, Guarded, temporary_folder};

/// How long a server may take to accept connections.
const STARTING: Duration = Duration::from_secs(60);

/// A kind of server: what tests call it, what Debian calls it, and how it is started.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The variable in which tests look for its URL.
    pub(crate) variable: &'static str,
    package: &'static str,
    program: &'static str,
    /// What tests start beside it: the package, called as its program is.
    beside: Option<&'static str>,
    start: fn(&Path, u16) -> io::Result<Running>,
}

pub(crate) const KINDS: [Kind; 3] = [
    Kind {
        name: "Redis",
        variable: "IDEMPOTENT_TEST_REDIS_URL",
        package: "redis-server",
        program: "redis-server",
        beside: Some("redis-sentinel"),
        start: start_redis,
    },
    Kind {
        name: "PostgreSQL",
        variable: "IDEMPOTENT_TEST_POSTGRES_URL",
        package: "postgresql",
        program: "postgres",
        beside: None,
        start: start_postgres,
    },
    Kind {
        name: "MariaDB",
        variable: "IDEMPOTENT_TEST_MYSQL_URL",
        package: "mariadb-server",
        program: "mariadbd",
        beside: None,
        start: start_mariadb,
    },
];

/// A server of ours. It is stopped, and its folder removed, when this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    running: Running,
    folder: PathBuf,
}

struct Running {
    process: Guarded,
    url: String,
}

impl Kind {
    /// Starts one, after having installed it if that is possible.
    pub(crate) fn start(&self) -> Result<Server, String> {
        found_or_installed(self.program, self.package)?;
        if let Some(program) = self.beside {
            found_or_installed(program, program)?;
        }
        let folder = temporary_folder(self.program).map_err(|error| error.to_string())?;
        let port = free_port();
        let running = (self.start)(&folder, port).map_err(|error| error.to_string())?;
        let mut server = Server {
            url: running.url.clone(),
            running,
            folder,
        };
        server.wait_for(port).map(|()| server)
    }
}

impl Server {
    fn wait_for(&mut self, port: u16) -> Result<(), String> {
        let deadline = Instant::now() + STARTING;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = self.running.process.0.try_wait() {
                return Err(format!("it ended while starting: {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "it does not accept connections after {} s",
                    STARTING.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // PostgreSQL takes connections before it serves them.
        while self.url.starts_with("postgres:") && Instant::now() < deadline {
            let port = format!("--port={port}");
            let arguments = ["--host=127.0.0.1", "--quiet", &port];
            let ready =
                command("pg_isready", &self.folder).and_then(|mut it| it.args(arguments).status());
            if !ready.is_ok_and(|status| !status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A temporary server with temporary data: there is nothing to be saved.
        let _ = self.running.process.0.kill();
        let _ = self.running.process.0.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts the server that is called so.
pub(crate) fn start(name: &str) -> Result<Server, String> {
    let kind = KINDS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| format!("there is no server called {name}"))?;
    kind.start().map_err(|cause| format!("no {name}: {cause}"))
}

/// Where a program is, after having installed its package if that is possible.
pub(crate) fn found_or_installed(program: &str, package: &str) -> Result<PathBuf, String> {
    if find(program).is_none() {
        install(program, package)?;
    }
    find(program).ok_or_else(|| format!("the package `{package}` has no `{program}`"))
}

/// Installs a package of Debian that has a program.
pub(crate) fn install(program: &str, package: &str) -> Result<(), String> {
    let missing = || format!("`{program}` is not installed, and cannot be: ");
    if !is_root() {
        return Err(missing() + "not root");
    }
    complain(&format!("   installing {package}"));
    for arguments in [
        &["update"][..],
        &["install", "--yes", "--no-install-recommends", package],
    ] {
        let done = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .map_err(|error| missing() + &error.to_string())?;
        if !done.success() {
            return Err(missing() + &format!("apt-get {} failed", arguments.join(" ")));
        }
    }
    Ok(())
}

/// Looks on the path, and where Debian puts PostgreSQL's programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let mut files = folders.into_iter().map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

fn command(program: &str, folder: &Path) -> io::Result<Command> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no `{program}`"));
    let mut command = Command::new(find(program).ok_or_else(missing)?);
    command.current_dir(folder);
    Ok(command)
}

/// As `user` if we are root, for servers that refuse to run as root.
fn command_as(user: &str, program: &str, folder: &Path) -> io::Result<Command> {
    let plain = command(program, folder)?;
    if !is_root() {
        return Ok(plain);
    }
    let mut other = command("setpriv", folder)?;
    other
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={user}"))
        .arg("--clear-groups");
    other.arg(plain.get_program());
    Ok(other)
}

fn start_redis(folder: &Path, port: u16) -> io::Result<Running> {
    let mut server = command("redis-server", folder)?;
    server.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    server
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder);
    Ok(Running {
        process: spawn(server, folder)?,
        url: format!("redis://127.0.0.1:{port}"),
    })
}

fn start_postgres(folder: &Path, port: u16) -> io::Result<Running> {
    let data = folder.join("data");
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(folder))?;
    }
    let mut init = command_as("postgres", "initdb", folder)?;
    init.args([
        "--username=postgres",
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
    ]);
    run(init.arg("--pgdata").arg(&data))?;
    let mut server = command_as("postgres", "postgres", folder)?;
    server
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(folder)
        .arg("-p")
        .arg(port.to_string());
    server.args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "max_connections=200",
    ]);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    Ok(Running {
        process: spawn(server, folder)?,
        url,
    })
}

fn start_mariadb(folder: &Path, port: u16) -> io::Result<Running> {
    let data = folder.join("data");
    let user = if is_root() {
        "--user=root"
    } else {
        "--skip-name-resolve"
    };
    let mut init = command("mariadb-install-db", folder)?;
    init.args([
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        user,
    ]);
    run(init.arg(format!("--datadir={}", data.display())))?;
    // Read by the server as it starts: tests connect to a database that is there.
    let script = folder.join("init.sql");
    fs::write(&script, "CREATE DATABASE IF NOT EXISTS test;\n")?;
    let mut server = command("mariadbd", folder)?;
    server.args(["--no-defaults", "--bind-address=127.0.0.1", user]);
    server.arg(format!("--datadir={}", data.display()));
    server.arg(format!("--socket={}", folder.join("socket").display()));
    server
        .arg(format!("--init-file={}", script.display()))
        .arg(format!("--port={port}"));
    let url = format!("mysql://root@127.0.0.1:{port}/test");
    Ok(Running {
        process: spawn(server, folder)?,
        url,
    })
}

/// Starts a server whose output goes to a file in its folder.
fn spawn(mut command: Command, folder: &Path) -> io::Result<Guarded> {
    let log = fs::File::create(folder.join("log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    guard::spawn(&mut command)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{command:?} failed: {}",
        said.trim()
    )))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt as _;
        metadata.uid() == 0
    })
}
