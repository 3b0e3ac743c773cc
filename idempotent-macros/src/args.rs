//! The arguments of the attribute: what each is read as, said once, and not against each other.

use proc_macro2::{Ident, TokenStream};
use syn::{Path, Result, parse_quote};

use crate::error::Errors;
use crate::list;
use crate::value::{Argument, Value};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const TEN_YEARS: u64 = 10 * 365 * 24 * HOUR;
const GIBIBYTE: u64 = 1 << 30;
const EXPRESSION: &str = "an expression over the handler's arguments";

/// The arguments as the runtime understands them.
pub(crate) struct Args {
    /// Where the runtime is.
    pub(crate) runtime: Path,
    pub(crate) calls: Vec<Call>,
    /// What was said, well or badly.
    said: Vec<Ident>,
}

/// `.method(value)` on one of the runtime's builders. The method has the span of the user's word: errors, and
/// editors, go there.
pub(crate) struct Call {
    pub(crate) method: Ident,
    pub(crate) value: Value,
}

impl Args {
    /// Every mistake goes to `errors`; what comes back is good only if there are none.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut slots = Slots::default();
        for argument in list::arguments(tokens, errors) {
            let (method, value) = read(&argument);
            slots.fill(method, &argument, value, errors);
        }
        slots.exclusions(errors);
        slots.into_args()
    }

    /// Where something was said, if it was: the method of the runtime, with the span of the user's word.
    pub(crate) fn said(&self, method: &str) -> Option<&Ident> {
        self.said.iter().find(|said| *said == method)
    }
}

/// What one use of the attribute says, a slot for each method of the runtime that it calls.
#[derive(Default)]
struct Slots(Vec<Slot>);

/// One thing, which can be said once: who said it, and the value if it was a good one.
struct Slot {
    method: &'static str,
    said_by: Ident,
    value: Option<Value>,
}

impl Slots {
    fn fill(
        &mut self,
        method: &'static str,
        argument: &Argument,
        value: Result<Value>,
        errors: &mut Errors,
    ) {
        let (value, second) = (errors.keep(value), &argument.name);
        match self.get(method).map(|slot| &slot.said_by) {
            None => self.0.push(Slot {
                method,
                said_by: second.clone(),
                value,
            }),
            Some(first) if first == second => {
                errors.at(
                    second,
                    format!("`{second}` is given twice: remove one of the two"),
                );
            }
            Some(first) => errors.at(
                second,
                format!("`{second}` says again what `{first}` has said: remove one of the two"),
            ),
        }
    }

    /// Arguments that are good by themselves and contradict another.
    fn exclusions(&self, errors: &mut Errors) {
        let at = |method| self.get(method).map(|slot| &slot.said_by);
        let waits = match self.get("in_flight") {
            Some(Slot {
                value: Some(value), ..
            }) => matches!(value, Value::Variant(_, "Wait")),
            said => said.is_some(),
        };
        if let (Some(wait), false) = (at("wait"), waits) {
            let rule = "nothing waits without `in_flight = \"wait\"`: add that, or remove `wait`";
            errors.at(wait, rule);
        }
        if let (Some(key), Some(_)) = (at("key"), at("header")) {
            let rule = "`key` replaces the header, which is never read: remove one of the two";
            errors.at(key, rule);
        }
    }

    fn get(&self, method: &str) -> Option<&Slot> {
        self.0.iter().find(|slot| slot.method == method)
    }

    fn into_args(self) -> Args {
        let mut args = Args {
            runtime: parse_quote!(::idempotent_runtime),
            calls: Vec::new(),
            said: Vec::new(),
        };
        for Slot {
            method,
            said_by,
            value,
        } in self.0
        {
            args.said.push(Ident::new(method, said_by.span()));
            match value {
                Some(Value::Runtime(path)) => args.runtime = path,
                Some(value) => {
                    let method = Ident::new(method, said_by.span());
                    args.calls.push(Call { method, value });
                }
                None => {}
            }
        }
        args
    }
}

/// The runtime's method that an argument stands for, and what to call it with.
fn read(it: &Argument) -> (&'static str, Result<Value>) {
    let ttl = "has to be more than zero and at most ten years";
    match it.name.to_string().as_str() {
        "ttl_hours" => ("ttl", it.time(HOUR, 1..=TEN_YEARS, ttl)),
        "ttl_minutes" => ("ttl", it.time(MINUTE, 1..=TEN_YEARS, ttl)),
        "ttl_secs" => ("ttl", it.time(SECOND, 1..=TEN_YEARS, ttl)),
        "ttl" => ("ttl", it.duration(1..=TEN_YEARS, ttl)),
        "header" => ("header", header(it)),
        "required" => ("required", it.switch()),
        "key" => ("key", it.expression(EXPRESSION)),
        "scope" => ("scope", it.expression(EXPRESSION)),
        "label" => ("label", it.expression(EXPRESSION)),
        "fingerprint" => ("fingerprint", fingerprint(it)),
        "fingerprint_headers" => ("fingerprint_headers", headers(it)),
        "lease" => (
            "lease",
            it.duration(10..=24 * HOUR, "has to be 10 ms to 24 h"),
        ),
        "in_flight" => (
            "in_flight",
            it.word("InFlight", &[("reject", "Reject"), ("wait", "Wait")]),
        ),
        "wait" => ("wait", it.duration(1..=HOUR, "has to be 1 ms to 1 h")),
        "on_abandoned" => ("on_abandoned", on_abandoned(it)),
        "replay_errors" => (
            "replay_errors",
            it.word(
                "ReplayErrors",
                &[("all", "All"), ("4xx", "ClientErrors"), ("none", "None")],
            ),
        ),
        "max_response_bytes" => (
            "max_response_bytes",
            it.number(0..=GIBIBYTE, "has to be at most 1 GiB"),
        ),
        "name" => ("name", name(it)),
        "crate" => ("crate", it.path("a path").map(Value::Runtime)),
        _ => ("unknown", Err(list::unknown(&it.name))),
    }
}

/// A field name of RFC 9110, in lower case as the `http` crate compares it.
fn header(it: &Argument) -> Result<Value> {
    let name = it.text(
        "has to be a header name (letters, digits and hyphens)",
        is_header_name,
    )?;
    Ok(Value::Text(name.to_ascii_lowercase()))
}

fn headers(it: &Argument) -> Result<Value> {
    it.texts(
        "header names (letters, digits and hyphens), each in quotes, in brackets",
        |name| is_header_name(name).then(|| name.to_ascii_lowercase()),
    )
}

fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn name(it: &Argument) -> Result<Value> {
    let name = it.text("has to be 1 to 255 visible ASCII characters", |name| {
        (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    })?;
    Ok(Value::Text(name))
}

fn fingerprint(it: &Argument) -> Result<Value> {
    match it.bare_word().as_deref() {
        Some("body") => Ok(Value::Variant("FingerprintSource", "Body")),
        Some("json") => Ok(Value::Variant("FingerprintSource", "Json")),
        _ => it.expression("`body`, `json` or an expression over the handler's arguments"),
    }
}

fn on_abandoned(it: &Argument) -> Result<Value> {
    if it.is_string() {
        return it.word("OnAbandoned", &[("reject", "Reject"), ("retry", "Retry")]);
    }
    match it.bare_word().as_deref() {
        Some(word @ ("reject" | "retry")) => Err(it.error(format!(
            "`{word}` without quotes is a function: write `on_abandoned = \"{word}\"`"
        ))),
        _ => it
            .path("`\"reject\"`, `\"retry\"` or the path of a recovery function")
            .map(Value::Recover),
    }
}
