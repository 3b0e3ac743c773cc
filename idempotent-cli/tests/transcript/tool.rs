//! The tool, as an operator runs it.

use std::cell::RefCell;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::service::{NAMESPACE, SECRET};
use crate::stores::Place;

/// The built binary, on one store. It remembers all that it has printed.
pub(crate) struct Tool {
    url: String,
    place: Vec<String>,
    printed: RefCell<String>,
}

/// What one run has printed, on both outputs.
pub(crate) struct Run {
    pub(crate) command: String,
    /// On the standard output.
    pub(crate) text: String,
    all: String,
    code: Option<i32>,
}

impl Tool {
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            url: place.url.clone(),
            place: match place.prefix() {
                Some(prefix) => vec!["--prefix".to_owned(), prefix],
                None => Vec::new(),
            },
            printed: RefCell::default(),
        }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.told(arguments, "")
    }

    /// As an operator who does not know the service's secret.
    pub(crate) fn run_as_stranger(&self, arguments: &[&str]) -> Run {
        self.start(arguments, "", "another secret")
    }

    /// With this on its input.
    pub(crate) fn told(&self, arguments: &[&str], input: &str) -> Run {
        let run = self.start(arguments, input, SECRET);
        self.printed.borrow_mut().push_str(&run.all);
        run
    }

    /// What it prints is not remembered.
    pub(crate) fn run_apart(&self, arguments: &[&str]) -> Run {
        self.start(arguments, "", SECRET)
    }

    /// With an output that is not read.
    pub(crate) fn unread(&self, arguments: &[&str]) -> Option<i32> {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut process = self.process(arguments, SECRET);
        let status = process.stdout(writer).stderr(Stdio::null()).status();
        status.expect("the tool").code()
    }

    fn process(&self, arguments: &[&str], secret: &str) -> Command {
        let mut process = Command::new(env!("CARGO_BIN_EXE_idempotent"));
        process
            .args(arguments)
            .args(&self.place)
            .env("IDEMPOTENCY_URL", &self.url)
            .env("IDEMPOTENCY_NAMESPACE", NAMESPACE)
            .env("IDEMPOTENCY_SECRET", secret)
            .env("USER", "operator")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process
    }

    fn start(&self, arguments: &[&str], input: &str, secret: &str) -> Run {
        let mut process = self.process(arguments, secret).spawn().expect("the tool");
        let mut stdin = process.stdin.take().expect("an input");
        // It may end without reading it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = process.wait_with_output().expect("the tool");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Run {
            command: arguments.join(" "),
            all: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            text,
            code: output.status.code(),
        }
    }

    pub(crate) fn assert_no_canary(&self, canaries: &[&str]) {
        let printed = self.printed.borrow();
        for canary in canaries.iter().chain([&SECRET]) {
            assert!(!printed.contains(canary), "{canary} is printed: {printed}");
        }
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}: {}", self.command, self.all);
        self
    }

    pub(crate) fn all(&self) -> &str {
        &self.all
    }

    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.code
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(
            self.all.contains(words),
            "{}: no {words:?} in {}",
            self.command,
            self.all
        );
        self
    }
}
