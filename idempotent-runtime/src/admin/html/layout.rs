//! What all pages share: the frame around their content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::admin::style::STYLE;
use crate::admin::visit::Visit;
use crate::admin::words::{STATES, label_of, name_of};

/// A whole page.
pub(in crate::admin) fn page(visit: &Visit, title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Idempotency" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to content" }
                header {
                    nav aria-label="Pages" {
                        a.home href={ (visit.root) "overview" } { "Idempotency" }
                        @for state in STATES {
                            a href={ (visit.root) "records?state=" (name_of(state)) } { (capital(label_of(state))) }
                        }
                        a href={ (visit.root) "records" } { "All" }
                    }
                    p.operator { "Operator " b { (visit.by) } }
                }
                main #content tabindex="-1" {
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
