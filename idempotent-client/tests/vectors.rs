//! Every row of `clients/vectors`, asked of `Policy::decide` alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use idempotent_client::{Conclusion, Decision, Intent, Outcome, Sent, State};
use support::rows::{self, Row};

/// The decision of a row, with the wait at one end of its bounds.
fn decide(row: &Row, random: f64) -> Decision {
    let (now, policy) = (rows::now(), row.when.policy());
    let intent = Intent::new_at(row.when.created(now));
    if let Some(latest) = row.when.latest(now) {
        intent.age(latest, &policy).unwrap();
    }
    let state = State {
        attempt: row.when.attempt(),
        sent: if row.when.sent {
            Sent::Before
        } else {
            Sent::Never
        },
        elapsed: Duration::from_millis(row.when.elapsed_ms),
        age: intent.age(now, &policy),
        lifetime: None,
        told: None,
    };
    let answer = row.when.answer.as_ref().map(rows::Answer::to_response);
    let outcome = match (&row.when.body, &row.when.failure, &answer) {
        (Some(_), _, _) => Outcome::Unrepeatable,
        (None, Some(_), _) => Outcome::Lost,
        (None, None, answer) => {
            Outcome::answer(answer.as_ref().expect("an answer, a failure or a body"))
        }
    };
    policy.decide(&outcome, &state, now, random)
}

fn check(row: &Row) {
    let decision = decide(row, 0.0);
    let (next, reason, key, intent) = match decision {
        Decision::Retry { .. } => ("retry", None, "kept", "open"),
        Decision::Conclude(Conclusion::Answered) => ("conclude", None, "spent", "answered"),
        // No transport of this crate sends a request again by itself, and nothing else has this intent.
        Decision::Conclude(Conclusion::Closed) if row.then.intent == "rejected" => {
            ("conclude", None, "kept", "rejected")
        }
        Decision::Conclude(Conclusion::Closed) => ("conclude", None, "spent", "closed"),
        Decision::Refuse(reason) => ("refuse", Some(reason.to_string()), "kept", "open"),
        Decision::Undecided(reason) => ("undecided", Some(reason.to_string()), "kept", "open"),
        _ => panic!("{decision:?}"),
    };
    let wanted = (
        row.then.next.as_str(),
        row.then.reason(),
        row.then.key.as_str(),
        row.then.intent.as_str(),
    );
    assert_eq!((next, reason, key, intent), wanted, "{}", row.name);
    if let Some([least, greatest]) = row.then.wait_ms {
        assert_eq!(wait(decide(row, 0.0)), least, "{}", row.name);
        assert_eq!(wait(decide(row, 1.0)), greatest, "{}", row.name);
        for step in 1..10 {
            let wait = wait(decide(row, f64::from(step) / 10.0));
            assert!((least..=greatest).contains(&wait), "{}: {wait}", row.name);
        }
    }
}

fn wait(decision: Decision) -> u64 {
    let Decision::Retry { wait, .. } = decision else {
        panic!("{decision:?}");
    };
    u64::try_from(wait.as_millis()).unwrap()
}

#[test]
fn every_row_is_decided_as_the_table_says() {
    let tables = rows::tables();
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    let known = [
        "answers",
        "codes",
        "limits",
        "plain",
        "retry-after",
        "stripe",
        "transport",
    ];
    assert_eq!(names, known);
    for (name, rows) in &tables {
        assert!(!rows.is_empty(), "{name}");
        rows.iter().for_each(check);
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    assert_eq!(rows::default_policy(), idempotent_client::Policy::new());
    assert_eq!(
        idempotent_client::Policy::default(),
        idempotent_client::Policy::new()
    );
}
