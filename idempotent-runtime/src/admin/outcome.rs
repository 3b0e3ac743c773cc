//! What became of a decision.

use http::StatusCode;

use super::words::duration;
use crate::Resolution;

/// A decision's outcome, in words.
#[derive(Debug)]
pub(super) struct Outcome {
    /// For programs.
    pub(super) name: &'static str,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) detail: String,
}

impl Outcome {
    pub(super) fn of(resolution: &Resolution, decision: &str) -> Self {
        match resolution {
            Resolution::Resolved if decision == "retry" => Self::done(
                "resolved",
                "Resolved: it may run again",
                "The key is free. The next request with it runs as the first attempt, unless the key is too old for its operation (key_age), or has another abandoned record (while a secret is rotated).",
            ),
            Resolution::Resolved => Self::done(
                "resolved",
                "Resolved: this is the answer from now on",
                "Every retry of the client gets it, until the record expires.",
            ),
            Resolution::Undecided => Self::unchanged(
                "undecided",
                "Nothing was decided",
                "The record is abandoned as before.",
            ),
            Resolution::NotFound => Self {
                status: StatusCode::NOT_FOUND,
                ..Self::unchanged(
                    "not-found",
                    "There is no such record",
                    "Its key is free: it has expired, or was meanwhile resolved or forgotten. Nothing was changed.",
                )
            },
            Resolution::Running { lease_left } => Self::unchanged(
                "running",
                "Not resolved: an attempt is running",
                format!(
                    "The record is not abandoned: its owner is alive, another attempt has begun, or another operator is \
                     deciding at this moment. Its lease ends in {} \
                     unless it is renewed. Nothing was changed.",
                    duration(*lease_left)
                ),
            ),
            Resolution::Completed(_) => Self::unchanged(
                "completed",
                "Not resolved: there is an answer already",
                "The record is completed. That answer stands, and the decision was not carried out.",
            ),
            Resolution::Changed => Self::changed(),
        }
    }

    /// The record is not the one any more that the operator has looked at.
    pub(super) fn changed() -> Self {
        Self::unchanged(
            "changed",
            "Not resolved: the record has changed",
            "The attempt that the decision was about has meanwhile been taken over, resolved or forgotten. Nothing was \
             changed. Look at the record again before you decide.",
        )
    }

    pub(super) fn forgotten() -> Self {
        let detail = "The record is removed. The next request with its key runs. An instance that has replayed its \
                      response may do so for up to 10 s more, from its cache.";
        Self::done("forgotten", "Forgotten", detail)
    }

    pub(super) fn is_done(&self) -> bool {
        self.status == StatusCode::OK
    }

    fn done(name: &'static str, title: &'static str, detail: &str) -> Self {
        Self {
            name,
            status: StatusCode::OK,
            title,
            detail: detail.to_owned(),
        }
    }

    fn unchanged(name: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: StatusCode::CONFLICT,
            title,
            detail: detail.into(),
        }
    }
}
