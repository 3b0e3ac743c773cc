//! The table: what an outcome means, before limits are asked. The order of the questions is the order of trust.

use http::StatusCode;
use http::header::HeaderMap;

use crate::code::Code;
use crate::decision::{Conclusion, Reason};
use crate::known::Sent;
use crate::outcome::{
    Outcome, is_idempotency_error, is_of_record, is_unprotected, problem_code, stripe_advice,
};
use crate::profile::Profile;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry,
    Conclude(Conclusion),
    Refuse(Reason),
    Undecided(Reason),
}

pub(crate) fn judge(outcome: &Outcome<'_>, profile: Profile, sent: Sent) -> Verdict {
    match *outcome {
        Outcome::Lost => Verdict::Retry,
        Outcome::Redirected => Verdict::Refuse(Reason::Redirected),
        Outcome::Unrepeatable => Verdict::Refuse(Reason::Body),
        Outcome::Answer { status, .. } if status.is_success() => {
            Verdict::Conclude(conclusion(status))
        }
        Outcome::Answer { headers, .. } if is_unprotected(headers) => {
            Verdict::Undecided(Reason::Unprotected)
        }
        Outcome::Answer {
            status,
            headers,
            body,
        } => {
            let error = error(profile, status, headers, body);
            if is_of_record(headers) {
                by_mark(status, error)
            } else {
                error
                    .and_then(by_error)
                    .unwrap_or_else(|| by_status(profile, status, headers, sent))
            }
        }
    }
}

/// What the server says in its body instead of running the operation.
fn error(profile: Profile, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Reason> {
    match profile {
        Profile::Stripe => is_idempotency_error(status, body).then_some(Reason::IdempotencyError),
        Profile::Draft => match problem_code(headers, body)? {
            // The operation has run.
            Code::ResponseNotRetained | Code::HandlerFailed => None,
            code => Some(Reason::Code(code)),
        },
    }
}

/// A stored answer is the operation's own, and what every other try gets. But no server stores an error of this kind itself: the
/// operation has handed on what a protected service behind it said, and that service may have run.
fn by_mark(status: StatusCode, error: Option<Reason>) -> Verdict {
    match error {
        Some(reason) => Verdict::Undecided(reason),
        None => Verdict::Conclude(conclusion(status)),
    }
}

/// What the server says in its body, if that decides.
fn by_error(error: Reason) -> Option<Verdict> {
    let Reason::Code(code) = error else {
        return Some(Verdict::Refuse(error));
    };
    match code {
        Code::OutcomeUnknown | Code::KeyExpired | Code::UnprotectedRoute => {
            Some(Verdict::Undecided(error))
        }
        Code::MissingKey | Code::InvalidKey | Code::KeyReused | Code::UnusableInput => {
            Some(Verdict::Refuse(error))
        }
        Code::InFlight
        | Code::ResponseNotRetained
        | Code::StoreUnavailable
        | Code::ShuttingDown
        | Code::Overloaded
        | Code::HandlerFailed => None,
    }
}

fn by_status(profile: Profile, status: StatusCode, headers: &HeaderMap, sent: Sent) -> Verdict {
    let number = status.as_u16();
    if number < 400 {
        return Verdict::Refuse(Reason::Status(status));
    }
    let advice = match profile {
        Profile::Stripe => stripe_advice(headers),
        Profile::Draft => None,
    };
    // 499 is a gateway's whose own call was cancelled, such as CANCELLED of gRPC.
    let is_not_now = matches!(number, 408 | 409 | 425 | 429 | 499..);
    match advice {
        Some(true) => Verdict::Retry,
        None if is_not_now => Verdict::Retry,
        // By Stripe's advice only.
        _ if number >= 500 => Verdict::Conclude(Conclusion::Answered),
        _ => by_rejection(status, sent),
    }
}

/// A 4xx that nothing marks: the operation's own, or from a gate that has not looked at the key. It says only that this try
/// has done nothing.
fn by_rejection(status: StatusCode, sent: Sent) -> Verdict {
    match (sent, status.as_u16()) {
        (Sent::Never, _) => Verdict::Conclude(Conclusion::Closed),
        // Only the application can sign in.
        (_, 401 | 403) => Verdict::Undecided(Reason::Status(status)),
        (Sent::Perhaps, _) => Verdict::Conclude(Conclusion::Rejected),
        // The operation's own answer comes back marked; a gate's uses up the tries.
        (Sent::Before, _) => Verdict::Retry,
    }
}

fn conclusion(status: StatusCode) -> Conclusion {
    if status.is_client_error() {
        Conclusion::Closed
    } else {
        Conclusion::Answered
    }
}
