//! What a run of the kit has found.

use std::fmt;

/// What a store promises, by the numbers of the [module documentation](crate::store).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// Rule 1: one atomic step each, and a claim is idempotent per token.
    AtomicClaim,
    /// Rule 2: every write after the claim compares the token, and that the record is running.
    Fencing,
    /// Rule 3: the fingerprint is compared before the state.
    FingerprintFirst,
    /// Rule 4: the end of a lease is not the end of a record.
    LeaseIsNotLife,
    /// Rule 5: a completed record neither changes nor goes before it expires; expired is absent.
    Immutable,
    /// Batched operations do not share a fate: each item has a result of its own.
    SharedFate,
    /// A call that was given up holds nothing.
    GivenUp,
    /// No numbered rule: what the documentation of a method says.
    Documented,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtomicClaim => "rule 1 (one atomic step each)",
            Self::Fencing => "rule 2 (every write compares the token)",
            Self::FingerprintFirst => "rule 3 (fingerprint before state)",
            Self::LeaseIsNotLife => "rule 4 (lease and life are two things)",
            Self::Immutable => "rule 5 (completed stays until it expires)",
            Self::SharedFate => "the rule for batches (each item has its own result)",
            Self::GivenUp => "the rule for calls that were given up (they hold nothing)",
            Self::Documented => "the method's documentation",
        })
    }
}

/// One case that a store did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The rule that was broken: the one that the case is about, or one that it builds on.
    pub rule: Rule,
    /// The name of the case.
    pub case: &'static str,
    /// What was done, what was expected, and what came instead.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks {}: {}", self.case, self.rule, self.detail)
    }
}

/// The cases that were run, and which of them the store did not pass.
#[derive(Clone, Debug)]
#[must_use = "a report that is not looked at finds nothing: call `assert_conformant`"]
pub struct Report {
    store: &'static str,
    cases: Vec<&'static str>,
    violations: Vec<Violation>,
    inconclusive: Vec<&'static str>,
}

impl Report {
    pub(super) fn new(store: &'static str) -> Self {
        Self {
            store,
            cases: Vec::new(),
            violations: Vec::new(),
            inconclusive: Vec::new(),
        }
    }

    pub(super) fn ran(&mut self, case: &'static str) {
        self.cases.push(case);
    }

    pub(super) fn violated(&mut self, case: &'static str, rule: Rule, detail: String) {
        self.violations.push(Violation { rule, case, detail });
    }

    pub(super) fn not_judged(&mut self, case: &'static str) {
        self.inconclusive.push(case);
    }

    /// The names of all cases, in the order in which they ran.
    #[must_use]
    pub fn cases(&self) -> &[&'static str] {
        &self.cases
    }

    /// What was found.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The cases that could not be judged because the machine was too slow for their leases, or
    /// had no random numbers. They are no violations; a longer [`Timing`](super::bed::Timing) helps.
    #[must_use]
    pub fn inconclusive(&self) -> &[&'static str] {
        &self.inconclusive
    }

    /// Whether no case was violated.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether this rule was broken by at least one case.
    #[must_use]
    pub fn violates(&self, rule: Rule) -> bool {
        self.violations
            .iter()
            .any(|violation| violation.rule == rule)
    }

    /// Fails the test that calls it when a rule was broken.
    ///
    /// # Panics
    ///
    /// When there is a violation; the message is this report.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion, for tests")]
    pub fn assert_conformant(&self) {
        if !self.is_conformant() {
            panic!("{self}");
        }
    }
}

/// A line for the store, then one for each violation and each case that was not judged.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, broken, all) = (self.store, self.violations.len(), self.cases.len());
        match broken {
            0 => write!(f, "the {store} store passed {all} cases")?,
            _ => write!(f, "the {store} store failed {broken} of {all} cases")?,
        }
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        for case in &self.inconclusive {
            write!(f, "\n  {case} was not judged: the machine was too slow")?;
        }
        Ok(())
    }
}
