//! Clients: one intent each, the same key on every try, patience that ends.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use http_body_util::BodyExt;
use idempotent_runtime::IDEMPOTENT_REPLAYED;
use tower::ServiceExt;

use crate::app::{body_of, key_of, scope_of};
use crate::plan::{IntentPlan, Millis};

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub said: Said,
    pub is_replay: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The handler's answer.
    Done(String),
    /// It was done, and what it answered was not kept.
    NotRetained,
    /// The handler says that nothing happened.
    Nothing,
    /// The handler failed, after what it had done.
    Failed,
    /// The function panicked, and so did its caller.
    Panicked,
    InFlight,
    Unknown,
    Reused,
    /// 503: nothing was done.
    Unavailable,
    Other(String),
}

impl Answer {
    pub fn of(said: Said) -> Self {
        Self {
            said,
            is_replay: false,
        }
    }

    pub fn of_value(value: String, is_replay: bool) -> Self {
        Self {
            said: Said::Done(value),
            is_replay,
        }
    }

    /// Whether the same key is worth another try.
    pub fn is_worth_a_retry(&self) -> bool {
        match self.said {
            Said::InFlight | Said::Unavailable | Said::Nothing => true,
            Said::Done(_)
            | Said::NotRetained
            | Said::Failed
            | Said::Panicked
            | Said::Unknown
            | Said::Reused
            | Said::Other(_) => false,
        }
    }
}

/// A client and what it is at.
#[derive(Clone, Debug)]
pub struct Client {
    pub intent: usize,
    pub variant: u8,
    pub tries_left: u32,
    /// The request that it waits for.
    pub waits_for: Option<u64>,
    /// Whether it asks at the end, when all is well, and must be told something final.
    pub is_probe: bool,
    pub began_at: Millis,
    pub is_done: bool,
}

/// Sends a request to a route, and reads the answer to its end.
pub async fn request(
    router: Router,
    route: usize,
    plan: IntentPlan,
    intent: usize,
    variant: u8,
) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/{route}"))
        .header("idempotency-key", key_of(&plan, intent))
        .header("x-scope", scope_of(&plan))
        .body(Body::from(body_of(intent, variant)))
        .expect("a request");
    let Ok(response) = router.oneshot(request).await;
    read(response).await
}

async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let is_replay = parts.headers.contains_key(IDEMPOTENT_REPLAYED);
    let Ok(body) = body.collect().await else {
        return Answer::of(Said::Failed);
    };
    let body = body.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    let code = text
        .split_once(r#""code":""#)
        .and_then(|(_, rest)| rest.split('"').next());
    let said = match code {
        Some("in-flight") => Said::InFlight,
        Some("outcome-unknown") => Said::Unknown,
        Some("key-reused") => Said::Reused,
        Some("response-not-retained") => Said::NotRetained,
        Some("store-unavailable" | "shutting-down") => Said::Unavailable,
        Some("handler-failed") => Said::Failed,
        Some(code) => Said::Other(code.to_owned()),
        None if parts.status.as_u16() == 201 => Said::Done(text),
        None if text == "nothing" => Said::Nothing,
        // A replay of a handler that failed is a stored response like any other.
        None if parts.status.is_server_error() => Said::Failed,
        None => Said::Other(format!("{} {text}", parts.status)),
    };
    Answer { said, is_replay }
}
