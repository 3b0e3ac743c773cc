//! What a case is.

use std::pin::Pin;

use super::lab::Lab;
use super::report::Rule;
use super::verdict::Verdict;

/// One thing that a store must do.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    pub(super) run: for<'a> fn(&'a Lab<'a>) -> RunningCase<'a>,
}

type RunningCase<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// The table of cases that a file begins with: the rule, and the function.
macro_rules! cases {
    ($($rule:ident: $($name:ident),+;)+) => {
        pub(super) const CASES: &[$crate::store::conformance::case::Case] = &[$($(
            $crate::store::conformance::case::Case {
                name: stringify!($name),
                rule: $crate::store::conformance::report::Rule::$rule,
                run: |lab| Box::pin($name(lab)),
            },
        )+)+];
    };
}

pub(super) use cases;
