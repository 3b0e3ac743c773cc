//! What is printed.

use std::error::Error;

#[expect(clippy::print_stdout, reason = "a command line tool talks to its user")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}

/// An error and its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One measurement as a line of JSON, which is how `xtask` gets it.
#[derive(Default)]
pub(crate) struct Line(serde_json::Map<String, serde_json::Value>);

impl Line {
    pub(crate) fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// A number with three decimals, or `null` where it is missing.
    pub(crate) fn number(self, name: &str, value: Option<f64>) -> Self {
        let rounded = value.map(|value| (value * 1000.0).round() / 1000.0);
        self.with(name, rounded)
    }

    pub(crate) fn say(self) {
        say(&serde_json::Value::Object(self.0).to_string());
    }
}
