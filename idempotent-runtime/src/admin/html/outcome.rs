//! What became of a decision, above the record as it is now.

use maud::{Markup, html};

use super::record::record;
use crate::Inspection;
use crate::admin::draft::Draft;
use crate::admin::outcome::Outcome;
use crate::admin::visit::Visit;

pub(in crate::admin) fn outcome(
    visit: &Visit,
    outcome: &Outcome,
    found: Option<&Inspection>,
) -> Markup {
    let kind = if outcome.is_done() { "good" } else { "bad" };
    html! {
        div.card.notice .(kind) role="status" { p { (outcome.detail) } }
        @if let Some(found) = found {
            (record(visit, found, false, &Draft::default()))
        }
        p { a href={ (visit.root) "records?state=abandoned" } { "Abandoned records" } }
    }
}

/// The form once more.
pub(in crate::admin) fn mistake(
    visit: &Visit,
    found: &Inspection,
    draft: &Draft,
    mistake: &str,
) -> Markup {
    html! {
        div.card.notice.bad role="alert" { p { (mistake) " Nothing was changed." } }
        (record(visit, found, false, draft))
    }
}
