//! The crates that measure: built here, started by the benchmark that needs them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::complain;

/// Builds it, optimized as `cargo build --release` does it for users, and says where it is.
///
/// A peer declares a newer Rust than it needs, which cargo is told to ignore.
pub(super) fn build(package: &str) -> Result<PathBuf, String> {
    complain(&format!("== building {package}"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", package])
        .args([
            "--ignore-rust-version",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.status.success() {
        return Err(format!("{package} does not build"));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().filter_map(executable).next_back();
    executable.ok_or_else(|| format!("cargo does not say where it has put {package}"))
}

/// The path in a message of cargo about something that was built.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_found_in_what_cargo_says() {
        let message = r#"{"reason":"compiler-artifact","filenames":["/t/x"],"executable":"/t/x","fresh":true}"#;
        assert_eq!(executable(message), Some("/t/x".into()));
        let library = r#"{"reason":"compiler-artifact","executable":null,"fresh":true}"#;
        assert_eq!(executable(library), None);
    }
}
