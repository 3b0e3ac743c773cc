use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where effects happen: a file with a line for each, which no crash takes back.
#[derive(Clone, Debug)]
pub struct Ledger(PathBuf);

impl Ledger {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes one line, durably.
    pub fn write(&self, line: &str) {
        let file = OpenOptions::new().create(true).append(true).open(&self.0);
        let mut file = file.expect("a ledger");
        file.write_all(format!("{line}\n").as_bytes())
            .expect("a line in the ledger");
        file.sync_data().expect("a ledger on a disk");
    }

    /// The effects of a key, in order.
    pub fn effects(&self, key: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let lines = text.lines().map(str::to_owned);
        lines
            .filter(|line| line.split(' ').next() == Some(key))
            .collect()
    }

    /// Asserts that a key has had one effect, and that this is what was answered.
    #[track_caller]
    pub fn assert_once(&self, key: &str, answer: &str) {
        assert_eq!(self.effects(key), [answer], "effects and answer of {key}");
    }
}
