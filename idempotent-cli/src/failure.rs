//! What went wrong, and what to do about it.

use std::io;
use std::process::ExitCode;

use idempotent_runtime::store::StoreError;
use idempotent_runtime::{Error, ErrorKind};

const LOOK_CLOSER: &str = "is the server there, and is the URL right? While it does not answer, nothing can be listed or decided";

const SHOW_IT_FIRST: &str = "`idempotent show` tells what is there now: look before you decide again, and after half a minute if the record is in flight";

/// Why a command has ended early. It has no key, no scope and no password: neither do the runtime's errors.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) remedy: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            remedy: None,
        }
    }

    pub(crate) fn with_remedy(message: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            message: message.into(),
            remedy: Some(remedy),
        }
    }

    /// With its causes.
    pub(crate) fn of_store(what: &str, error: &StoreError) -> Self {
        let mut message = format!("{what}: {error}");
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::with_remedy(message, LOOK_CLOSER)
    }

    /// Of a decision that was sent: what has become of it is unknown.
    pub(crate) fn of_decision(error: Error) -> Self {
        Self::unsure("the decision may have been carried out", error)
    }

    /// The same of a removal.
    pub(crate) fn of_removal(error: Error) -> Self {
        Self::unsure("the record may have been removed", error)
    }

    fn unsure(what: &str, error: Error) -> Self {
        match error.kind() {
            ErrorKind::Store => Self::with_remedy(format!("{what}: {error:?}"), SHOW_IT_FIRST),
            _ => error.into(),
        }
    }

    #[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        if let Some(remedy) = self.remedy {
            eprintln!("  {remedy}");
        }
        ExitCode::from(2)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::NotMigrated => Some(
                "run `idempotent migrate`, or give the output of `idempotent migrate --print` to the database's administrator; is --table right?",
            ),
            ErrorKind::FeatureDisabled => Some(
                "install this tool with that feature: `cargo install idempotent-cli --features ...`",
            ),
            ErrorKind::InvalidUrl | ErrorKind::UnknownScheme => {
                Some("set --store or IDEMPOTENCY_URL to the URL that the service connects to")
            }
            ErrorKind::Store => Some(LOOK_CLOSER),
            _ => None,
        };
        Self {
            // With its causes.
            message: format!("{error:?}"),
            remedy,
        }
    }
}

/// Of the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(format!("cannot write the output: {error}"))
    }
}
