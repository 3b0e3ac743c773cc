//! Where everything of one run is: a folder that is gone when the run is over, together with the
//! servers in it, however the run ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reads until this process is gone, kills the servers by their process ids, and cleans up.
const JANITOR: &str = r#"
trap '' INT TERM HUP
while read -r line; do :; done
for file in "$1"/pids/*; do kill -9 "${file##*/}" 2>/dev/null; done
for again in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" 2>/dev/null && break; sleep 0.2; done
"#;

struct Workspace {
    root: PathBuf,
    /// Its input ends when this process does.
    _janitor: Child,
}

fn workspace() -> &'static Workspace {
    static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
    WORKSPACE.get_or_init(|| {
        let name = format!("idempotent-faults-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("pids")).expect("a temporary folder");
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Workspace {
            root,
            _janitor: janitor,
        }
    })
}

/// A new folder.
pub fn folder(name: &str) -> PathBuf {
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = workspace().root.join(format!("{name}-{number}"));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// From now on this process is killed when the run is over.
pub fn adopt(pid: u32) {
    fs::write(pid_file(pid), "").expect("a file");
}

/// It is dead already, and its number may soon be another process's.
pub fn forget(pid: u32) {
    let _ = fs::remove_file(pid_file(pid));
}

fn pid_file(pid: u32) -> PathBuf {
    workspace().root.join("pids").join(pid.to_string())
}

/// The program's path: on the path, or where Debian puts PostgreSQL's programs.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
    versions.sort();
    folders.extend(versions.iter().rev().map(|version| version.join("bin")));
    let mut files = folders.into_iter().map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Sends a signal to one process, as `kill -NAME pid` does.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(sent.expect("the program `kill`").success(), "no signal");
}

/// The end of a log, for the developer who looks at a failed test.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
