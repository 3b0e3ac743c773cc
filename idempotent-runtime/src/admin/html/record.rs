//! One record: what is known of it, its response, and what can be done about it.

use maud::{Markup, html};

use super::forms::{forget, resolve};
use crate::admin::draft::Draft;
use crate::admin::json::{body_of, pairs, status_of};
use crate::admin::visit::Visit;
use crate::admin::words::{duration, label_of, name_of, number, time};
use crate::{Inspection, RecordState, StoredResponse};

/// The most bytes of a body that a page shows.
const MOST_SHOWN: usize = 64 * 1024;

pub(in crate::admin) fn title(found: &Inspection) -> String {
    format!("Record {}", found.record_key)
}

pub(in crate::admin) fn record(
    visit: &Visit,
    found: &Inspection,
    is_revealed: bool,
    draft: &Draft,
) -> Markup {
    html! {
        section.card { (facts(found)) }
        @match &found.state {
            RecordState::Completed(it) => (response(visit, found, it, is_revealed)),
            RecordState::Abandoned => (resolve(visit, found, draft)),
            RecordState::Running { .. } => p {
                "An attempt is running. There is nothing to decide: if its process dies, the record is abandoned when the lease ends."
            },
        }
        (forget(visit, found))
    }
}

fn facts(found: &Inspection) -> Markup {
    let state = status_of(&found.state);
    html! {
        dl {
            dt { "State" }
            dd { span.badge .(name_of(state)) { (label_of(state)) } }
            dt { "Operation" } dd.mono { (found.operation) }
            @if let Some(label) = &found.label { dt { "Label" } dd { (label) } }
            dt { "Attempt" } dd { (found.attempt) }
            dt { "Age" } dd { (duration(found.age)) }
            @if let RecordState::Running { lease_left } = &found.state {
                dt { "Lease ends in" } dd { (duration(*lease_left)) ", unless it is renewed" }
            }
            dt { "Expires in" } dd { (duration(found.expires_in)) }
            dt { "Record key" } dd.mono { (found.record_key.to_hex()) }
            @if !matches!(found.state, RecordState::Completed(_)) { (steps(found)) }
        }
    }
}

fn steps(found: &Inspection) -> Markup {
    html! {
        dt { "Finished steps" }
        dd {
            @match found.steps() {
                Ok(steps) if steps.is_empty() => span.soft { "none" },
                Ok(steps) => ol { @for step in steps { li.mono { (step) } } },
                Err(_) => "They cannot be read, such as those of a newer release.",
            }
        }
    }
}

fn response(
    visit: &Visit,
    found: &Inspection,
    response: &StoredResponse,
    is_revealed: bool,
) -> Markup {
    html! {
        h2 { "Stored response" }
        section.card {
            dl {
                dt { "Status" }
                dd { @if response.status == 0 { "none: the result of a function" } @else { (response.status) } }
                dt { "Headers" } dd { (headers(&pairs(&response.headers), is_revealed)) }
                @if let Some(trailers) = response.trailers() {
                    dt { "Trailers" } dd { (headers(&pairs(trailers), is_revealed)) }
                }
                dt { "Body" } dd { (body(body_of(response), is_revealed)) }
                @if let Some(trace_context) = response.trace_context() {
                    dt { "Trace context" } dd.mono { (trace_context) }
                }
                @if let Some(audit) = response.audit() {
                    dt { "Decided by" } dd { (audit.by()) }
                    dt { "Decided at" } dd { (time(audit.at())) }
                    dt { "Reason" } dd { (audit.reason()) }
                }
            }
        }
        @if !is_revealed {
            form method="post" action={ (visit.root) "records/" (found.record_key.to_hex()) "/reveal" } {
                p.soft { "The body and the values of the headers may be secret. Showing them is logged with your name." }
                button.quiet { "Show body and header values" }
            }
        }
    }
}

fn headers(headers: &[(String, String)], is_revealed: bool) -> Markup {
    html! {
        @if headers.is_empty() { span.soft { "none" } } @else {
            ul.names {
                @for (name, value) in headers {
                    li.mono { (name) @if is_revealed { ": " (value) } }
                }
            }
        }
    }
}

fn body(body: Option<&[u8]>, is_revealed: bool) -> Markup {
    let Some(body) = body else {
        return html! { "not stored: it was over the limit, or it failed" };
    };
    let shown = body.get(..MOST_SHOWN).unwrap_or(body);
    html! {
        (number(body.len())) @if body.len() == 1 { " byte" } @else { " bytes" }
        @if is_revealed && !body.is_empty() {
            @if shown.len() < body.len() { ", of which the first " (number(shown.len())) " are shown" }
            pre tabindex="0" { (String::from_utf8_lossy(shown)) }
        }
    }
}
