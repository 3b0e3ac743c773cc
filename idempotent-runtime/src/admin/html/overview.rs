//! The overview: what there is, by state and operation.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::find::find;
use super::picture::picture;
use crate::admin::query::Query;
use crate::admin::survey::{Survey, Tallies};
use crate::admin::visit::Visit;
use crate::admin::words::{STATES, count, duration, label_of, name_of};

pub(in crate::admin) fn overview(visit: &Visit, survey: &Survey) -> Markup {
    let is_partial = survey.totals.iter().any(|tally| tally.is_partial);
    html! {
        (totals(visit, &survey.totals))
        @if is_partial {
            p.soft { "Counted up to a bound, or as far as the store answered: there may be more records than this, and more operations." }
        }
        h2 { "By operation" }
        @if survey.operations.is_empty() {
            p { @if is_partial { "No record was found so far." } @else { "The store has no records." } }
        }
        div.operations {
            @for (name, tallies) in urgent_first(survey) {
                (operation(visit, name, tallies))
            }
        }
        @if survey.has_more_operations {
            p.soft { "There are more operations, which are counted above alone." }
        }
        (find(visit))
    }
}

/// The most abandoned records first, then by name.
fn urgent_first(survey: &Survey) -> Vec<(&str, &Tallies)> {
    let operations = survey.operations.iter();
    let mut operations: Vec<_> = operations.map(|(name, it)| (&**name, it)).collect();
    operations.sort_by_key(|(_, [abandoned, ..])| Reverse(abandoned.count));
    operations
}

fn totals(visit: &Visit, totals: &Tallies) -> Markup {
    html! {
        div.totals {
            @for (state, tally) in STATES.into_iter().zip(totals) {
                a.card .(name_of(state)) .none[tally.count == 0] href={ (visit.root) "records?state=" (name_of(state)) } {
                    b { (count(tally.count, tally.is_partial)) }
                    (label_of(state))
                    @if tally.count > 0 {
                        span.soft { ", the oldest " (duration(tally.oldest)) }
                    }
                }
            }
        }
    }
}

fn operation(visit: &Visit, name: &str, tallies: &Tallies) -> Markup {
    let list = |state| Query {
        state: Some(state),
        operation: Some(name.to_owned()),
        ..Query::default()
    };
    html! {
        section.card {
            h3.mono { (name) }
            ul {
                @for (state, tally) in STATES.into_iter().zip(tallies).filter(|(_, tally)| tally.count > 0) {
                    li {
                        a href={ (visit.root) "records?" (list(state).encoded()) } {
                            (count(tally.count, tally.is_partial)) " " (label_of(state))
                        }
                    }
                }
            }
            @if let [abandoned, ..] = tallies && abandoned.count > 0 {
                p.oldest.soft { "The oldest abandoned one is " (duration(abandoned.oldest)) " old." }
            }
            (picture(name, tallies))
        }
    }
}
