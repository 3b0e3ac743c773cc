//! The user's names are the user's: none of them is the expansion's by accident, and the other way round.
#![deny(warnings)]
#![allow(dead_code, non_camel_case_types)]

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

struct Policy;
struct Inputs;
struct Response;
struct IdempotentRequest;
struct OnAbandoned;
struct Box;
struct Option;
struct Some;
mod core {}
mod std {}
mod axum_core {}
trait Send {}
trait FnOnce {}
static POLICY: u8 = 7;

#[idempotent(scope = (__a0.as_str(), &__last, POLICY))]
async fn create_order(__a0: axum::http::Method, __last: String) -> String {
    let _ = (Policy, Inputs, Response, POLICY);
    format!("{__a0} {__last} {POLICY}")
}

#[idempotent]
async fn calls_itself(depth: String) -> String {
    if depth.is_empty() {
        return depth;
    }
    let rest = depth.chars().skip(1).collect();
    ::std::boxed::Box::pin(calls_itself(rest)).await
}

#[idempotent]
async fn r#async(r#type: String) -> String {
    r#type
}

macro_rules! handler {
    ($name:ident, $ttl:literal, $scope:expr, |$body:ident: $ty:ty| $answer:expr) => {
        #[idempotent(ttl = $ttl, scope = $scope)]
        async fn $name($body: $ty) -> String {
            $answer
        }
    };
}

handler!(made_by_a_macro, "12h", 1 + 1, |body: String| body);

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1", post(create_order))
        .route("/2", post(calls_itself))
        .route("/3", post(r#async))
        .route("/4", post(made_by_a_macro));
}
