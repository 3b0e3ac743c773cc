//! Servers that are spoken to by TLS alone, with a certificate of an authority that was made for this test.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[path = "../../xtask/src/free_port.rs"]
mod free_port;

use free_port::free_port;

/// How long a server may take to start.
const BOUND: Duration = Duration::from_secs(60);

/// A folder with certificates, and a server in it. Both are gone when this is dropped.
struct Scene {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Scene {
    /// `None`, and a line that says so, where these programs are not installed.
    fn new(programs: &[&str]) -> Option<Self> {
        if let Some(missing) = programs.iter().find(|program| find(program).is_none()) {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!in_ci, "no `{missing}`");
            let line = format!("skipped: TLS, because there is no `{missing}`\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let name = format!("idempotent-tls-{}-{}", programs[0], std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let scene = Self {
            folder,
            port: free_port(),
            server: None,
        };
        scene.certify();
        Some(scene)
    }

    /// Makes an authority, and the server's certificate.
    fn certify(&self) {
        let key = "req -x509 -newkey rsa:2048 -nodes -days 2";
        self.openssl(&format!(
            "{key} -subj /CN=authority -keyout ca.key -out ca.pem"
        ));
        self.openssl(&format!(
            "{key} -subj /CN=server -keyout server.key -out server.pem -CA ca.pem -CAkey ca.key \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
        ));
    }

    fn openssl(&self, arguments: &str) {
        succeed(self.command("openssl").args(arguments.split_whitespace()));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).expect("it was looked for"));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// PostgreSQL refuses to run as root.
    fn command_as_postgres(&self, program: &str) -> Command {
        let plain = self.command(program);
        if !is_root() {
            return plain;
        }
        let mut other = Command::new("setpriv");
        other.current_dir(&self.folder).stdin(Stdio::null());
        other.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        other.arg(plain.get_program());
        other
    }

    fn start(&mut self, mut server: Command) {
        let log = fs::File::create(self.folder.join("log")).expect("a log");
        server.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(server.spawn().expect("a server"));
    }

    /// A run of the tool that trusts the authority, when the server is up.
    fn tool(&self, url: &str, arguments: &[&str]) -> Output {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                started.elapsed() < BOUND,
                "the server does not start: {log}"
            );
            sleep(Duration::from_millis(20));
        }
        tool(url, Some(&self.folder.join("ca.pem")), arguments)
    }
}

/// A run of the tool, with these certificates instead of the system's.
fn tool(url: &str, authorities: Option<&Path>, arguments: &[&str]) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_idempotent"));
    tool.args(arguments).env("IDEMPOTENCY_URL", url);
    tool.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    if let Some(authorities) = authorities {
        tool.env("SSL_CERT_FILE", authorities);
    }
    tool.output().expect("the tool")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    let mut files = folders.into_iter().map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().expect("a program");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[track_caller]
fn assert_says(output: &Output, is_success: bool, words: &str) {
    let said = said(output);
    assert_eq!(output.status.success(), is_success, "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_redis_behind_tls() {
    let Some(mut scene) = Scene::new(&["redis-server", "openssl"]) else {
        return;
    };
    let mut server = scene.command("redis-server");
    server.args(["--bind", "127.0.0.1", "--save", "", "--port", "0"]);
    server.args(["--tls-port", &scene.port.to_string()]);
    server.args("--tls-cert-file server.pem --tls-key-file server.key".split(' '));
    server.args("--tls-ca-cert-file ca.pem --tls-auth-clients no".split(' '));
    scene.start(server);

    let url = format!("rediss://127.0.0.1:{}", scene.port);
    assert_says(&scene.tool(&url, &["stats"]), true, "0");
    assert_says(&tool(&url, None, &["stats"]), false, "certificate");
}

#[test]
fn a_postgresql_behind_tls() {
    let Some(mut scene) = Scene::new(&["postgres", "initdb", "openssl"]) else {
        return;
    };
    let key = scene.folder.join("server.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("a key");
    if is_root() {
        succeed(scene.command("chown").args(["-R", "postgres", "."]));
    }
    let mut init = scene.command_as_postgres("initdb");
    init.args("--username=postgres --auth=trust --no-sync --encoding=UTF8 --locale=C".split(' '));
    succeed(init.args(["--pgdata", "data"]));
    let rule = "hostssl all all 127.0.0.1/32 trust\n";
    fs::write(scene.folder.join("data/pg_hba.conf"), rule).expect("its rules");
    let mut server = scene.command_as_postgres("postgres");
    let port = scene.port.to_string();
    server.args(["-D", "data", "-p", &port]).arg("-k");
    server.arg(&scene.folder);
    server.args("-c listen_addresses=127.0.0.1 -c ssl=on".split(' '));
    for file in ["ssl_cert_file=server.pem", "ssl_key_file=server.key"] {
        let (name, file) = file.split_once('=').expect("both");
        server.arg("-c");
        server.arg(format!("{name}={}", scene.folder.join(file).display()));
    }
    scene.start(server);

    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let started = Instant::now();
    let verified = format!("{url}?sslmode=verify-full");
    // It takes connections before it serves them.
    while said(&scene.tool(&verified, &["migrate"])).contains("starting up") {
        assert!(started.elapsed() < BOUND, "it does not start");
    }
    assert_says(&scene.tool(&verified, &["stats"]), true, "0");
    assert_says(&scene.tool(&url, &["stats"]), true, "0");
    assert_says(&tool(&verified, None, &["stats"]), false, "certificate");
    let plain = format!("{url}?sslmode=disable");
    assert_says(&scene.tool(&plain, &["stats"]), false, "no encryption");
}
