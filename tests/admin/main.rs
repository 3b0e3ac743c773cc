//! The page for operators, as a router: who may, what is shown and what is not, and what becomes of a decision. That it
//! works in a browser is tested in `examples/checkout/test/admin.test.js`.

#[allow(dead_code, reason = "the page meets few of its faults")]
#[path = "../behaviour/support/faulty.rs"]
mod faulty;
#[allow(dead_code, reason = "what is logged is read as one text")]
#[path = "../behaviour/support/logged.rs"]
mod logged;
mod support;

mod access;
mod contents;
mod decisions;
mod failures;
mod forgetting;
mod lists;
