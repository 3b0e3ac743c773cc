//! What an operator can do about a record.

use maud::{Markup, html};

use crate::admin::draft::{Draft, UNREADABLE};
use crate::admin::json::status_of;
use crate::admin::visit::Visit;
use crate::admin::words::{name_of, reads_like_route};
use crate::{Inspection, RecordKey};

/// Three forms for an abandoned record: it was done, as an answer or as a value; or it was not.
pub(super) fn resolve(visit: &Visit, found: &Inspection, draft: &Draft) -> Markup {
    let is_of = |decision: &str| draft.decision == decision;
    let none = Draft::default();
    let of = |decision: &str| if is_of(decision) { draft } else { &none };
    html! {
        h2 { "Resolve" }
        p {
            "The attempt ended without an answer, and it is unknown whether its effect happened. \
             Find out, at the bank for example, and decide. The owner first gets 2.5 s, in case it is alive."
        }
        div.choices {
            (replay(visit, found, of("replay")))
            (retry(visit, found, of("retry")))
        }
        details open[is_of("replay-value") || !reads_like_route(&found.operation)] {
            summary { "It was done by a function without HTTP" }
            (replay_value(visit, found, of("replay-value")))
        }
    }
}

fn replay(visit: &Visit, found: &Inspection, draft: &Draft) -> Markup {
    let status = if draft.status == 0 {
        String::new()
    } else {
        draft.status.to_string()
    };
    html! {
        form.card method="post" action=(action(visit, found, "resolve")) {
            h3 { "It was done" }
            p.soft { "Every retry of the client gets this answer." }
            (hidden(found, "replay"))
            div.fields {
                label {
                    "Status"
                    input name="status" type="number" min="200" max="599" required value=(status) placeholder="201";
                }
                label {
                    "Content type"
                    input name="content_type" value=(draft.content_type) placeholder="application/json" autocomplete="off";
                }
            }
            label { "Body" textarea name="body" spellcheck="false" { "\n" (draft.body) } }
            (reason(draft, KEPT))
            button { "Send this answer" }
        }
    }
}

fn retry(visit: &Visit, found: &Inspection, draft: &Draft) -> Markup {
    let has_steps = found.steps().map_or(true, |steps| !steps.is_empty());
    html! {
        form.card method="post" action=(action(visit, found, "resolve")) {
            h3 { "It was not done" }
            p.soft { "The key is free, and the next request with it runs as the first attempt (unless it is too old for its operation, key_age)." }
            @if has_steps {
                p { b { "Steps that were finished are forgotten, and run again." } " Look at the list above first." }
            }
            (hidden(found, "retry"))
            (reason(draft, LOGGED))
            button { "Let it run again" }
        }
    }
}

fn replay_value(visit: &Visit, found: &Inspection, draft: &Draft) -> Markup {
    html! {
        form.card method="post" action=(action(visit, found, "resolve")) {
            p.soft { "Every later call with the key returns this value." }
            (hidden(found, "replay-value"))
            label {
                "Value"
                span.hint { "JSON, as the function's result serializes" }
                textarea name="body" required spellcheck="false" { "\n" (draft.body) }
            }
            (reason(draft, KEPT))
            @if reads_like_route(&found.operation) {
                label {
                    input type="checkbox" name="confirm" value="yes" required;
                    "It is a function without HTTP, although its name reads like a handler's method and route"
                }
            }
            button { "Return this value" }
        }
    }
}

/// Behind a disclosure, and with a box to tick.
pub(super) fn forget(visit: &Visit, found: &Inspection) -> Markup {
    let about = html! {
        (hidden(found, "forget"))
        input type="hidden" name="state" value=(name_of(status_of(&found.state)));
    };
    html! {
        details {
            summary { "Forget this record" }
            (forget_form(&action(visit, found, "forget"), &about))
        }
    }
}

/// For a record of which nothing is known: nothing else gets rid of it before it expires.
pub(in crate::admin) fn forget_unreadable(visit: &Visit, key: RecordKey) -> Markup {
    let about = html! {
        input type="hidden" name="decision" value="forget";
        input type="hidden" name="state" value=(UNREADABLE);
    };
    html! {
        h2 { "Forget this record" }
        (forget_form(&action_of(visit, key, "forget"), &about))
    }
}

fn forget_form(action: &str, about: &Markup) -> Markup {
    html! {
        form.card method="post" action=(action) {
            p {
                "The record is removed, " b { "whatever its state" } ". The next request with its key runs, also if \
                 this one was done, or is being done at this moment. It is looked at once more before that, and what \
                 happens in between is removed too. For a record that nothing else gets rid of."
            }
            (about)
            (reason(&Draft::default(), LOGGED))
            label {
                input type="checkbox" name="confirm" value="yes" required;
                "I know that it may be done twice"
            }
            button.danger { "Forget it" }
        }
    }
}

fn action(visit: &Visit, found: &Inspection, verb: &str) -> String {
    action_of(visit, found.record_key, verb)
}

fn action_of(visit: &Visit, key: RecordKey, verb: &str) -> String {
    format!("{}records/{}/{verb}", visit.root, key.to_hex())
}

/// Which decision, and about which attempt of which record: another one is not touched.
fn hidden(found: &Inspection, decision: &str) -> Markup {
    html! {
        input type="hidden" name="decision" value=(decision);
        input type="hidden" name="seen" value=(found.seen());
    }
}

/// Where a reason is found later.
const KEPT: &str = "Stored with the record and logged, with your name. No secrets.";
const LOGGED: &str = "Logged with your name: there is no record left to keep it. No secrets.";

fn reason(draft: &Draft, hint: &str) -> Markup {
    html! {
        label {
            "Reason"
            span.hint { (hint) }
            input name="reason" required maxlength="512" value=(draft.reason) autocomplete="off";
        }
    }
}
