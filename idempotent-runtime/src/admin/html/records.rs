//! A list of records, page by page.

use maud::{Markup, html};

use crate::admin::page::Page;
use crate::admin::query::Query;
use crate::admin::visit::Visit;
use crate::admin::words::{STATES, duration, label_of, name_of, number};
use crate::store::ListedRecord;

pub(in crate::admin) fn records(visit: &Visit, query: &Query, page: &Page) -> Markup {
    html! {
        (filter(query))
        @if page.records.is_empty() {
            @if page.next.is_some() {
                p { "Nothing found so far. The search has looked at a part of the store only." }
            } @else {
                p { "There is no such record" @if query.after.is_some() { " on this page" } "." }
            }
        } @else {
            (table(visit, page))
        }
        (pages(query, page))
    }
}

fn filter(query: &Query) -> Markup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    html! {
        form.card.filter method="get" {
            label {
                "State"
                select name="state" {
                    option value="" { "any" }
                    @for state in STATES {
                        option value=(name_of(state)) selected[query.state == Some(state)] { (label_of(state)) }
                    }
                }
            }
            label { "Operation" input name="operation" value=(text(&query.operation)) placeholder="POST /payments"; }
            label { "Label" input name="label" value=(text(&query.label)); }
            label { "Older than" input name="older_than" value=(text(&query.older_than)) placeholder="15min, 2h, 7d"; }
            div { button { "Filter" } }
        }
    }
}

fn table(visit: &Visit, page: &Page) -> Markup {
    html! {
        // The roles are lost where the style makes a narrow table a list.
        table role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    @for name in ["Record", "State", "Operation", "Label", "Attempt", "Age", "Expires in"] {
                        th scope="col" role="columnheader" { (name) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for record in &page.records { (row(visit, record)) }
            }
        }
    }
}

fn row(visit: &Visit, record: &ListedRecord) -> Markup {
    html! {
        tr role="row" {
            td role="cell" data-label="Record" {
                a.mono href={ (visit.root) "records/" (record.key.to_hex()) } { (record.key) }
            }
            td role="cell" data-label="State" {
                span.badge .(name_of(record.status)) { (label_of(record.status)) }
            }
            td role="cell" data-label="Operation" { code { (record.operation) } }
            td.none[record.label.is_none()] role="cell" data-label="Label" {
                @if let Some(label) = &record.label { (label) }
            }
            td.num role="cell" data-label="Attempt" { (record.attempt) }
            td.num role="cell" data-label="Age" { (duration(record.age)) }
            td.num role="cell" data-label="Expires in" { (duration(record.expires_in)) }
        }
    }
}

fn pages(query: &Query, page: &Page) -> Markup {
    let at = |after| Query {
        after,
        ..query.clone()
    };
    html! {
        nav.pages aria-label="Pages of this list" {
            @if !page.records.is_empty() {
                span.soft {
                    (number(page.records.len())) @if page.records.len() == 1 { " record" } @else { " records" }
                    " on this page, in the order of their keys"
                }
            }
            @if query.after.is_some() {
                a href={ "?" (at(None).encoded()) } { "First page" }
            }
            @if let Some(next) = &page.next {
                a rel="next" href={ "?" (at(Some(next.clone())).encoded()) } { "Next page" }
            }
        }
    }
}
