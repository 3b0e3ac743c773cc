//! [`Answers`]: the answers to copies of a request, and the assertions about them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::Location;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde::Deserialize;

use crate::handle::{HeaderFilter, IDEMPOTENT_REPLAYED};
use crate::http::observed::Observed;

/// The answers to the copies of a request, in the order in which the copies were sent.
#[derive(Debug)]
pub struct Answers {
    responses: Vec<Response<Bytes>>,
    facts: Vec<Facts>,
    ignored: Vec<HeaderName>,
}

/// A copy of a request, and its answer.
pub(super) struct Copy(Response<Bytes>, Facts);

/// What happened to one copy.
#[derive(Clone, Copy, Debug)]
struct Facts {
    is_taken: bool,
    runs: usize,
}

impl Copy {
    pub(super) fn new(response: Response<Bytes>, observed: &Observed) -> Self {
        let facts = Facts {
            is_taken: observed.is_taken(),
            runs: observed.runs(),
        };
        Self(response, facts)
    }
}

impl Answers {
    pub(super) fn new(copies: Vec<Copy>, ignored: Vec<HeaderName>) -> Self {
        let (responses, facts) = copies.into_iter().map(|copy| (copy.0, copy.1)).unzip();
        Self {
            responses,
            facts,
            ignored,
        }
    }

    /// The answers, with their whole bodies.
    #[must_use]
    pub fn responses(&self) -> &[Response<Bytes>] {
        &self.responses
    }

    /// How often the handler ran.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.facts.iter().map(|copy| copy.runs).sum()
    }

    /// How many of the answers are replays.
    #[must_use]
    pub fn replays(&self) -> usize {
        self.responses.iter().filter(|it| is_replay(it)).count()
    }

    pub(super) fn check(&self, runs: usize, caller: &Location<'_>) {
        let problem = self
            .unprotected()
            .or_else(|| self.wrong_runs(runs))
            .or_else(|| self.unequal_replays());
        if let Some(problem) = problem {
            fail(&format!("{caller}: {problem}\n{}", self.listed()));
        }
    }

    /// Runs of a handler without the attribute are not counted.
    fn unprotected(&self) -> Option<String> {
        let mut copies = self.responses.iter().zip(&self.facts);
        let at = copies.position(|(it, copy)| it.status().is_success() && !copy.is_taken)?;
        let copy = at + 1;
        Some(format!(
            "copy {copy} was answered by something that is not under `#[idempotent]`"
        ))
    }

    fn wrong_runs(&self, expected: usize) -> Option<String> {
        let runs = self.runs();
        (runs != expected).then(|| {
            format!("the handler should have run {expected} times, and it ran {runs} times")
        })
    }

    fn unequal_replays(&self) -> Option<String> {
        let indexed = || self.responses.iter().enumerate();
        let mut replays = indexed().filter(|(_, it)| is_replay(it));
        let (at, replay) = replays.next()?;
        for (other, response) in replays {
            if let Some(difference) = self.difference(replay, response) {
                let (at, other) = (at + 1, other + 1);
                return Some(format!(
                    "the replays of copies {at} and {other} differ: {difference}"
                ));
            }
        }
        let ran = indexed().zip(&self.facts).filter(|(_, copy)| copy.runs > 0);
        let mut difference = None;
        for ((first, response), _) in ran {
            let differs = self.difference(response, replay)?;
            let (first, at) = (first + 1, at + 1);
            let text =
                format!("the replay of copy {at} is not the answer of copy {first}: {differs}");
            difference = Some(text);
        }
        difference
    }

    /// The first part of two answers that is not the same.
    fn difference(&self, one: &Response<Bytes>, other: &Response<Bytes>) -> Option<String> {
        if one.status() != other.status() {
            return Some(format!("{} and {}", one.status(), other.status()));
        }
        let (ones, others) = (self.compared(one), self.compared(other));
        let names: BTreeSet<&str> = ones
            .keys()
            .chain(others.keys())
            .map(HeaderName::as_str)
            .collect();
        let values = |of: &HeaderMap, name| of.get_all(name).iter().cloned().collect::<Vec<_>>();
        for name in names {
            if values(&ones, name) != values(&others, name) {
                return Some(format!("the header `{name}`"));
            }
        }
        if one.body() == other.body() {
            return None;
        }
        let pairs = one.body().iter().zip(other.body());
        let common = pairs.take_while(|(one, other)| one == other).count();
        let (one, other) = (one.body().len(), other.body().len());
        Some(format!(
            "the bodies, of {one} and {other} bytes, from byte {common} on"
        ))
    }

    /// The headers that have to be the same.
    fn compared(&self, response: &Response<Bytes>) -> HeaderMap {
        let ignored = self.ignored.iter().cloned();
        let filter = ignored.fold(HeaderFilter::default(), HeaderFilter::exclude);
        let headers = filter.stored(response.headers());
        let owned = headers.map(|(name, value)| (name.clone(), value.clone()));
        owned.collect()
    }

    fn listed(&self) -> String {
        let mut text = String::new();
        for (index, (response, copy)) in self.responses.iter().zip(&self.facts).enumerate() {
            let what = match copy.runs {
                0 if !copy.is_taken => ", before a protected handler",
                0 => "",
                _ => ", the handler ran",
            };
            let number = index + 1;
            // Writing to a string does not fail.
            let _ = writeln!(text, "  copy {number}: {}{what}", described(response));
        }
        text
    }
}

fn is_replay(response: &Response<Bytes>) -> bool {
    response.headers().get(IDEMPOTENT_REPLAYED) == Some(&HeaderValue::from_static("true"))
}

/// Its status, and what this crate says in it: never its body.
pub(super) fn described(response: &Response<Bytes>) -> String {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    let mut text = response.status().to_string();
    let content_type = response.headers().get(CONTENT_TYPE);
    if content_type.is_some_and(|it| it == "application/problem+json")
        && let Ok(problem) = serde_json::from_slice::<Problem>(response.body())
    {
        let _ = write!(text, " `{}`", problem.code);
    }
    if is_replay(response) {
        text.push_str(", a replay");
    }
    let _ = write!(text, ", {} bytes", response.body().len());
    text
}

/// Fails the test.
#[expect(clippy::panic, reason = "a test fails by a panic")]
pub(super) fn fail(message: &str) -> ! {
    panic!("{message}")
}
