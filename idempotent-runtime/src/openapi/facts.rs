//! What is true of every protected operation, as OpenAPI writes it: one text for both libraries.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::handle::ProblemCode;

const PROBLEM: &str = "application/problem+json";
pub(super) const REPLAYED: &str = "Idempotent-Replayed";

/// A quoted string of RFC 9651, or visible ASCII without quotes, commas and semicolons.
const KEY: &str = r#"^(?:[!#-+\-.\/0-:<-~]{1,255}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$"#;

/// The header of an operation's key, for its documentation.
pub trait KeyHeader {
    /// The name of the header: the attribute's `header = "..."`.
    const NAME: &'static str;
    /// Whether a request without it is refused: the attribute's `required = bool`.
    const REQUIRED: bool = true;
}

/// `Idempotency-Key`, required: what the attribute has by default.
#[derive(Clone, Copy, Debug)]
pub struct DefaultKeyHeader;

impl KeyHeader for DefaultKeyHeader {
    const NAME: &'static str = "Idempotency-Key";
}

/// The parameter object.
pub(super) fn parameter<N: KeyHeader>() -> Value {
    json!({
        "name": N::NAME,
        "in": "header",
        "required": N::REQUIRED,
        "description": "Names one intent: made once, for example as a UUID, and sent unchanged with every retry. A retry gets the \
            first response.",
        "schema": { "type": "string", "pattern": KEY },
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    })
}

/// The response objects of the problems, by status.
pub(super) fn responses() -> BTreeMap<u16, Value> {
    let mut codes: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    for code in ProblemCode::ALL {
        let is_documented = match code {
            // One has a status of the handler's, and the other is for tests.
            ProblemCode::ResponseNotRetained | ProblemCode::UnprotectedRoute => false,
            _ => true,
        };
        if is_documented {
            codes.entry(code.status().as_u16()).or_default().push(*code);
        }
    }
    let described = codes.into_iter();
    described
        .map(|(status, codes)| (status, response(&codes)))
        .collect()
}

fn response(codes: &[ProblemCode]) -> Value {
    let described = codes.iter().map(|it| format!("{} (`{it}`)", it.title()));
    let link = header(
        &json!({ "type": "string" }),
        "Where the problem is documented.",
    );
    let mut headers = Map::from_iter([("Link".to_owned(), link)]);
    for code in codes {
        match code {
            ProblemCode::InFlight
            | ProblemCode::StoreUnavailable
            | ProblemCode::ShuttingDown
            | ProblemCode::Overloaded => headers.insert("Retry-After".to_owned(), retry_after()),
            ProblemCode::HandlerFailed => headers.insert(REPLAYED.to_owned(), replay_marker()),
            _ => None,
        };
    }
    json!({
        "description": described.collect::<Vec<_>>().join(". "),
        "headers": headers,
        "content": { PROBLEM: { "schema": problem(codes) } },
    })
}

/// RFC 9457, and the code.
fn problem(codes: &[ProblemCode]) -> Value {
    let codes: Vec<&str> = codes.iter().map(|it| it.as_str()).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "enum": codes },
        },
    })
}

fn retry_after() -> Value {
    header(
        &json!({ "type": "integer", "minimum": 1 }),
        "How many seconds to wait before the next try.",
    )
}

/// The header object of the mark that replays have.
pub(super) fn replay_marker() -> Value {
    header(
        &json!({ "type": "boolean" }),
        "`true` if this is the response to an earlier request with the key.",
    )
}

fn header(schema: &Value, description: &str) -> Value {
    json!({ "description": description, "schema": schema })
}
