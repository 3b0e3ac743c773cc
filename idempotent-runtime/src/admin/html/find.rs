//! How a record is found that is in no list: by its client's key, or by its record key.

use maud::{Markup, html};

use crate::admin::visit::Visit;

pub(in crate::admin) fn find(visit: &Visit) -> Markup {
    html! {
        h2 { "Find a record" }
        form.card.filter method="post" action={ (visit.root) "find" } {
            label {
                "Operation"
                span.hint { "as it is listed above" }
                input.mono name="operation" required autocomplete="off" spellcheck="false" placeholder="POST /payments";
            }
            label {
                "Client's key"
                span.hint { "as in its header" }
                input.mono name="key" required autocomplete="off" spellcheck="false";
            }
            label {
                "Scope"
                span.hint { "JSON, if it has one" }
                input.mono name="scope" autocomplete="off" spellcheck="false";
            }
            label {
                "Kind of key"
                span.hint { "where it comes from" }
                select name="kind" {
                    option value="header" { "a request's header" }
                    option value="text" { "a call of execute" }
                }
            }
            div { button.quiet { "Find" } }
        }
        form.card.filter method="get" action={ (visit.root) "records" } {
            label {
                "Record key"
                span.hint { "64 digits, or the first ones, as in a log" }
                input.mono name="key" required pattern=" *[0-9a-fA-F]{4,64} *" autocomplete="off" spellcheck="false";
            }
            div { button.quiet { "Open" } }
        }
    }
}
