//! What went wrong, and what to do about it.

use std::io;
use std::process::ExitCode;

use idempotent_runtime::store::{StoreError, StoreErrorKind};
use idempotent_runtime::{Error, ErrorKind};

const LOOK_CLOSER: &str = "is the server there, and is the URL right? While it does not answer, nothing can be listed or decided";

const SHOW_IT_FIRST: &str = "`idempotent show` tells what is there now: look before you decide again, and after half a minute if the record is in flight. Was it refused? This tool's user needs SELECT, INSERT, UPDATE and DELETE on the table, EXECUTE on its functions (PostgreSQL), and a server that takes writes: `idempotent doctor` tells what is missing";

const REFUSED: &str = "this tool's user needs SELECT and DELETE on the table, and a server that takes writes; `idempotent doctor` tells what is missing";

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
        Self::with_remedy(format!("{what}: {}", causes(error)), LOOK_CLOSER)
    }

    /// Of a decision that was sent: what has become of it is unknown.
    pub(crate) fn of_decision(error: &Error) -> Self {
        Self::unsure("the decision may have been carried out", error)
    }

    /// The same of a removal.
    pub(crate) fn of_removal(error: &Error) -> Self {
        Self::unsure("the record may have been removed", error)
    }

    /// The same of the removal of one record. A store that has refused it has removed nothing.
    pub(crate) fn of_removal_of_one(error: &Error) -> Self {
        let cause = std::error::Error::source(error);
        let cause = cause.and_then(|cause| cause.downcast_ref::<StoreError>());
        let is_refused =
            |it: &StoreError| it.kind() == StoreErrorKind::Refused && !it.may_have_happened();
        match cause.is_some_and(is_refused) {
            true => Self::with_remedy(format!("nothing was changed: {}", causes(error)), REFUSED),
            false => Self::of_removal(error),
        }
    }

    fn unsure(what: &str, error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Store => {
                Self::with_remedy(format!("{what}: {}", causes(error)), SHOW_IT_FIRST)
            }
            _ => Self::from_ref(error),
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
        Self::from_ref(&error)
    }
}

/// What an error says, and each of its causes once: some say what their own cause says, too.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = error.source();
    }
    text
}

impl Failure {
    fn from_ref(error: &Error) -> Self {
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
            message: causes(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let inner = StoreError::new("a", StoreErrorKind::Busy);
        let said = inner.to_string();
        let outer = StoreError::new("a", StoreErrorKind::Busy).with_source(inner);
        assert_eq!(causes(&outer), said);
        let inner = StoreError::new("a", StoreErrorKind::Full);
        let both = format!("{said}: {inner}");
        let outer = StoreError::new("a", StoreErrorKind::Busy).with_source(inner);
        assert_eq!(causes(&outer), both);
    }
}
