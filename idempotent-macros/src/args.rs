//! The arguments of the attribute: one table says everything about each of them.

use proc_macro2::{Ident, TokenStream};
use syn::{Path, Result, parse_quote};

use crate::error::Errors;
use crate::list;
use crate::value::{Argument, Limits, Value, Words};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const TEN_YEARS: u64 = 10 * 366 * 24 * HOUR;

const TTL_RULE: &str = "must be more than zero and at most ten years";
const TTL: Limits = (1..=TEN_YEARS, TTL_RULE);
const LEASE: Limits = (10..=24 * HOUR, "must be between 10 ms and 24 h");
const WAIT: Limits = (1..=HOUR, "must be between 1 ms and 1 h");
const BYTES: Limits = (0..=1 << 30, "must be at most 1 GiB");

const IN_FLIGHT: Words = ("InFlight", &[("reject", "Reject"), ("wait", "Wait")]);
const KEY_AGE: Words = ("KeyAge", &[("any", "Any"), ("ttl", "Ttl")]);
const ON_ABANDONED: Words = ("OnAbandoned", &[("reject", "Reject"), ("retry", "Retry")]);

const EXPRESSION: &str = "an expression over the handler's arguments";
const FINGERPRINT: &str = "`body`, `json` or an expression over the handler's arguments";
const HEADER: &str = "must be a header name (letters, digits and hyphens)";
const HEADERS: &str = "header names (letters, digits and hyphens), each in quotes, in brackets";
const NAME: &str = "must be 1 to 255 visible ASCII characters, or a method and a route";

const HANDLE: &str = "an expression over the handler's arguments: where the handle is";
const HAS_HANDLE: &str = "this function takes the handle as an argument";
const NO_REQUEST: &str = "this function has no request";
const NO_ERROR: &str = "an `Err` of this function is never stored";
const KEY_OF_ARGUMENTS: &str =
    "the key of this function comes from its arguments, not from a client";
const HAS_KEY: &str = "this function always has a key";
const NO_LEASE: &str = "a transaction has no lease, because it ends with its connection";
const NOT_ABANDONED: &str =
    "a transaction that is not committed leaves nothing behind, so no key is abandoned";

/// Every argument of the attribute: its name, a value that it accepts, and how its value is read. The method of the
/// runtime that it calls has the same name where nothing else is said; an expression is one of `Inputs`, the rest are
/// of `Policy`.
pub(crate) static ARGUMENTS: &[Spec] = &[
    Spec::new("ttl_hours", "24", |it| it.time(HOUR, TTL)).calls("ttl"),
    Spec::new("ttl_minutes", "90", |it| it.time(MINUTE, TTL)).calls("ttl"),
    Spec::new("ttl_secs", "3600", |it| it.time(SECOND, TTL)).calls("ttl"),
    Spec::new("ttl", "\"24h\"", |it| it.duration(TTL)),
    Spec::new("header", "\"Idempotency-Key\"", header).not_plain(NO_REQUEST),
    Spec::new("required", "false", Argument::switch).not_plain(HAS_KEY),
    Spec::new("key", "order.id", expression),
    Spec::new("key_age", "\"ttl\"", |it| it.word(KEY_AGE)).not_plain(KEY_OF_ARGUMENTS),
    Spec::new("scope", "user.id", expression),
    Spec::new("label", "order.number", expression),
    Spec::new("fingerprint", "json", fingerprint),
    Spec::new("fingerprint_headers", "[\"x-api-version\"]", headers).not_plain(NO_REQUEST),
    Spec::new("lease", "\"30s\"", |it| it.duration(LEASE)).not_in_transaction(NO_LEASE),
    Spec::new("in_flight", "\"wait\"", |it| it.word(IN_FLIGHT)),
    Spec::new("wait", "\"5s\"", |it| it.duration(WAIT)),
    Spec::new("on_abandoned", "\"retry\"", on_abandoned).not_in_transaction(NOT_ABANDONED),
    Spec::new("replay_errors", "\"4xx\"", replay_errors).not_plain(NO_ERROR),
    Spec::new("max_response_bytes", "1048576", |it| it.number(BYTES)),
    Spec::new("name", "\"payments.create\"", |it| it.text(NAME, name)),
    Spec::new("with", "app.idempotency", handle).not_plain(HAS_HANDLE),
    Spec::new("crate", "my_api::idempotent_runtime", runtime),
];

type Reader = fn(&Argument) -> Result<Value>;

/// One argument.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    example: &'static str,
    pub(crate) read: Reader,
    /// The runtime's method. It can be called once.
    pub(crate) method: &'static str,
    /// Why a function without HTTP does not take it.
    pub(crate) not_plain: Option<&'static str>,
    /// Why a handler with `#[tx]` does not take it.
    pub(crate) not_in_transaction: Option<&'static str>,
}

impl Spec {
    const fn new(name: &'static str, example: &'static str, read: Reader) -> Self {
        Self {
            name,
            example,
            read,
            method: name,
            not_plain: None,
            not_in_transaction: None,
        }
    }

    const fn calls(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    const fn not_plain(mut self, why: &'static str) -> Self {
        self.not_plain = Some(why);
        self
    }

    const fn not_in_transaction(mut self, why: &'static str) -> Self {
        self.not_in_transaction = Some(why);
        self
    }

    /// `ttl_hours = 24`: how the argument is written.
    pub(crate) fn example(&self) -> String {
        format!("{} = {}", self.name, self.example)
    }
}

/// What one use of the attribute says, an entry for each method of the runtime that it calls.
pub(crate) struct Args {
    pub(crate) said: Vec<Said>,
}

/// One argument as it was said, and its value if that was a good one.
pub(crate) struct Said {
    pub(crate) spec: &'static Spec,
    pub(crate) name: Ident,
    pub(crate) value: Option<Value>,
}

impl Args {
    /// Every mistake goes to `errors`; what comes back is good only if there are none.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self { said: Vec::new() };
        for argument in list::arguments(tokens, errors) {
            let value = (argument.spec.read)(&argument);
            let value = value.map_err(|mistake| errors.push(mistake)).ok();
            let Argument { spec, name, .. } = argument;
            let Some(first) = args.get(spec.method).map(|first| &first.name) else {
                args.said.push(Said { spec, name, value });
                continue;
            };
            let rule = match *first == name {
                true => format!("`{name}` is given twice"),
                false => format!("`{name}` sets the same as `{first}`"),
            };
            errors.at(&name, format!("{rule}: remove one of the two"));
        }
        args.check_contradictions(errors);
        args
    }

    /// Arguments that are good by themselves and contradict another.
    fn check_contradictions(&self, errors: &mut Errors) {
        let in_flight = self.get("in_flight").map(|said| &said.value);
        let waits = matches!(in_flight, Some(None | Some(Value::Variant(_, "Wait"))));
        let wait = self.get("wait").filter(|_| !waits);
        let rule =
            "`wait` has no effect without `in_flight = \"wait\"`: add that, or remove `wait`";
        errors.refuse(wait.map(|said| &said.name), rule);
        let key = self.get("key").filter(|_| self.get("header").is_some());
        let rule = "`key` replaces the header, which is never read: remove one of the two";
        errors.refuse(key.map(|said| &said.name), rule);
    }

    /// What was said that calls the method, well or badly.
    pub(crate) fn get(&self, method: &str) -> Option<&Said> {
        self.said.iter().find(|said| said.spec.method == method)
    }

    pub(crate) fn value(&self, method: &str) -> Option<&Value> {
        self.get(method)?.value.as_ref()
    }

    /// Where the runtime is.
    pub(crate) fn runtime(&self) -> Path {
        match self.value("crate") {
            Some(Value::Runtime(path)) => path.clone(),
            _ => parse_quote!(::idempotent_runtime),
        }
    }
}

/// A field name of RFC 9110, in lower case as the `http` crate compares it.
fn header_name(name: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    is_name.then(|| name.to_ascii_lowercase())
}

/// Also what an operation without a name is called, such as `POST /payments/{id}`: a name that is set later can be that one.
fn name(name: &str) -> Option<String> {
    let (method, route) = name.split_once(" /").unwrap_or((name, ""));
    let is_visible = |it: &str| it.bytes().all(|byte| byte.is_ascii_graphic());
    let is_name =
        !method.is_empty() && name.len() <= 255 && is_visible(method) && is_visible(route);
    is_name.then(|| name.to_owned())
}

fn expression(it: &Argument) -> Result<Value> {
    it.expression(EXPRESSION).map(Value::Borrowed)
}

fn handle(it: &Argument) -> Result<Value> {
    it.expression(HANDLE).map(Value::Handle)
}

fn header(it: &Argument) -> Result<Value> {
    it.text(HEADER, header_name)
}

fn headers(it: &Argument) -> Result<Value> {
    it.texts(HEADERS, header_name)
}

fn fingerprint(it: &Argument) -> Result<Value> {
    match it.bare_word().as_deref() {
        Some("body") => Ok(Value::Variant("FingerprintSource", "Body")),
        Some("json") => Ok(Value::Variant("FingerprintSource", "Json")),
        _ => it.expression(FINGERPRINT).map(Value::Borrowed),
    }
}

fn on_abandoned(it: &Argument) -> Result<Value> {
    if it.is_string() {
        let hint = |error| it.error(format!("{error}; a recovery function has no quotes"));
        return it.word(ON_ABANDONED).map_err(hint);
    }
    if let Some(word @ ("reject" | "retry")) = it.bare_word().as_deref() {
        let rule = format!("`{word}` without quotes is a function");
        return Err(it.error(format!("{rule}: write `on_abandoned = \"{word}\"`")));
    }
    let wanted = "`\"reject\"`, `\"retry\"` or the path of a recovery function";
    it.path(wanted).map(Value::Recover)
}

fn replay_errors(it: &Argument) -> Result<Value> {
    let variants = &[("all", "All"), ("4xx", "ClientErrors"), ("none", "None")];
    it.word(("ReplayErrors", variants))
}

fn runtime(it: &Argument) -> Result<Value> {
    it.path("a path").map(Value::Runtime)
}
