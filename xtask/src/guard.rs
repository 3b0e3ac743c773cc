//! What this process leaves behind when it is killed, only another process can clean up.
//!
//! The guard is a shell that holds the other end of a pipe. It is told which processes and folders are
//! ours; when the pipe closes, which it does however this process ends (`SIGKILL` too), it ends the
//! processes that are left and removes the folders.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Each process leads a group of its own, and is ended with all that it has started.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
alive=''
while read -r what name; do
    case $what in
        started) alive="$alive $name" ;;
        ended)
            left=''
            for group in $alive; do
                [ "$group" = "$name" ] || left="$left $group"
            done
            alive=$left
            ;;
        folder) set -- "$@" "$name" ;;
    esac
done
for group in $alive; do
    kill -s KILL -- "-$group" 2>/dev/null
done
for folder; do
    rm -rf -- "$folder" || { sleep 1; rm -rf -- "$folder"; }
done
"#;

/// A shell that cleans up when it is dropped, or when this process is gone.
struct Guard {
    pipe: Mutex<ChildStdin>,
}

impl Guard {
    fn new() -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .current_dir("/")
            // What is sent to our group, such as Ctrl-C, is not meant for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = shell.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self {
            pipe: Mutex::new(pipe),
        })
    }

    fn tell(&self, what: &str, name: &str) -> io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe, "{what} {name}")
    }
}

fn guard() -> io::Result<&'static Guard> {
    static GUARD: OnceLock<Guard> = OnceLock::new();
    if let Some(guard) = GUARD.get() {
        return Ok(guard);
    }
    let guard = Guard::new()?;
    Ok(GUARD.get_or_init(|| guard))
}

/// A process that does not outlive this one, nor does what it starts.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

/// Starts a process in a group of its own.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Guarded> {
    let guard = guard()?;
    let mut child = command.process_group(0).spawn()?;
    if let Err(error) = guard.tell("started", &child.id().to_string()) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(Guarded(child))
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
        if let Ok(guard) = guard() {
            let _ = guard.tell("ended", &self.0.id().to_string());
        }
    }
}

/// Makes a folder whose name cannot be guessed, and that is gone when this process is.
pub(crate) fn temporary_folder(name: &str) -> io::Result<PathBuf> {
    let mut random = [0; 12];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = std::env::temp_dir().join(format!("idempotent-{name}-{random}"));
    guard()?.tell("folder", path_of(&folder)?)?;
    // A server of another user has to get through, and need not see what is there.
    fs::DirBuilder::new().mode(0o711).create(&folder)?;
    Ok(folder)
}

fn path_of(folder: &Path) -> io::Result<&str> {
    let path = folder.to_str().filter(|path| !path.contains('\n'));
    path.ok_or_else(|| io::Error::other("the temporary folder has an unusable name"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// As when the process is killed: the pipe closes and nothing else happens.
    #[test]
    fn what_a_killed_process_has_started_is_ended_and_its_folders_are_removed() {
        let guard = Guard::new().unwrap();
        // It has a child that would outlive it.
        let mut started = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let folder = temporary_folder("guarded").unwrap();
        fs::write(folder.join("file"), "content").unwrap();
        let mut ended = Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        guard.tell("started", &started.id().to_string()).unwrap();
        guard.tell("started", &ended.id().to_string()).unwrap();
        guard.tell("ended", &ended.id().to_string()).unwrap();
        guard.tell("folder", folder.to_str().unwrap()).unwrap();
        // It has begun its child, and says which.
        let mut output = String::new();
        let mut said = BufReader::new(started.stdout.take().unwrap());
        said.read_line(&mut output).unwrap();
        assert!(!output.trim().is_empty());
        drop(guard);

        assert_eq!(started.wait().unwrap().signal(), Some(9));
        // The end of its output is the end of its child, which has it too.
        said.read_to_string(&mut output).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while folder.exists() {
            assert!(
                std::time::Instant::now() < deadline,
                "the folder is still there"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // What has ended is not touched: its number may be another process's by now.
        assert!(ended.try_wait().unwrap().is_none());
        ended.kill().unwrap();
        ended.wait().unwrap();
    }

    #[test]
    fn folders_have_names_that_cannot_be_guessed() {
        let folders = ["a", "a"].map(|name| temporary_folder(name).unwrap());
        assert_ne!(folders[0], folders[1]);
        for folder in folders {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
