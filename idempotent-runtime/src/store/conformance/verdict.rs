//! What a case finds, and the words it is written with.

use std::error::Error;
use std::fmt::Debug;

use super::report::Rule;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::{StoreError, StoreErrorKind};

pub(super) type Verdict = Result<(), Failure>;

/// Why a case did not pass.
pub(super) enum Failure {
    /// The store broke this rule, or else the case's.
    Violated(Option<Rule>, String),
    /// A call was refused because another statement was in its way, such as the server's own housekeeping: if that goes on, it is
    /// a violation.
    Busy(Option<Rule>, String),
    /// The case took so long that what it saw says nothing.
    Inconclusive,
}

impl Failure {
    pub(super) fn unexpected(what: &str, expected: &str, got: &dyn Debug) -> Self {
        let expected: Vec<_> = expected.split_whitespace().collect();
        let (expected, got) = (expected.join(" "), shortened(format!("{got:?}")));
        Self::Violated(None, format!("{what}: expected `{expected}`, got `{got}`"))
    }

    /// For what a case only builds on: a store that fails there is called by the rule it breaks,
    /// and not by that of every case which needs it.
    pub(super) fn against(self, rule: Rule) -> Self {
        match self {
            Self::Violated(None, detail) => Self::Violated(Some(rule), detail),
            Self::Busy(None, detail) => Self::Busy(Some(rule), detail),
            other => other,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let mut message = format!("store error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        match error.kind() {
            StoreErrorKind::Busy => Self::Busy(None, message),
            _ => Self::Violated(None, message),
        }
    }
}

/// Without random keys there is nothing to say about the store.
impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Inconclusive
    }
}

/// A racing call of the store panicked.
impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Violated(None, error.to_string())
    }
}

/// Fails the case unless the value matches the pattern.
macro_rules! must_be {
    ($what:expr, $got:expr, $pattern:pat $(if $guard:expr)?) => {
        match $got {
            $pattern $(if $guard)? => {}
            got => {
                let expected = stringify!($pattern $(if $guard)?);
                return Err($crate::store::conformance::verdict::Failure::unexpected(
                    $what, expected, &got,
                ));
            }
        }
    };
}

pub(super) use must_be;

/// The record is as it was, but for time having passed.
pub(super) fn unchanged(what: &str, before: &Record, after: Option<Record>) -> Verdict {
    let same = after.as_ref().is_some_and(|after| {
        after.fingerprint == before.fingerprint
            && after.operation == before.operation
            && after.label == before.label
            && after.attempt == before.attempt
            && after.age >= before.age
            && after.expires_in <= before.expires_in
            && after.progress == before.progress
            && same_state(&before.state, &after.state)
    });
    if same {
        return Ok(());
    }
    Err(Failure::unexpected(
        what,
        "the record unchanged",
        &(before, after),
    ))
}

fn same_state(before: &RecordState, after: &RecordState) -> bool {
    match (before, after) {
        (
            RecordState::Running { lease_left: before },
            RecordState::Running { lease_left: after },
        ) => after <= before,
        (RecordState::Abandoned, RecordState::Abandoned) => true,
        (RecordState::Completed(before), RecordState::Completed(after)) => same(before, after),
        _ => false,
    }
}

/// Equal to the byte, and with the headers in the same order, which `==` does not look at.
pub(super) fn same(one: &StoredResponse, other: &StoredResponse) -> bool {
    one.status == other.status
        && one.body == other.body
        && one.headers.iter().eq(other.headers.iter())
}

/// A detail is for reading: a body of a mebibyte is not.
fn shortened(mut text: String) -> String {
    const MOST: usize = 600;
    if text.len() > MOST {
        let end = (0..=MOST)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        text.truncate(end);
        text.push_str("...");
    }
    text
}
