//! Functions of a type, whether they say `Self` or not.
#![deny(warnings)]

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use idempotent_runtime::{Abandoned, Idempotency, Recovery, idempotent};

#[derive(Clone)]
struct Shop<T> {
    idempotency: Idempotency,
    stock: T,
}

impl<T> FromRef<Shop<T>> for Idempotency {
    fn from_ref(shop: &Shop<T>) -> Self {
        shop.idempotency.clone()
    }
}

impl<T: Clone + Send + Sync + 'static> Shop<T> {
    const CREATED: StatusCode = StatusCode::CREATED;

    #[idempotent]
    async fn without_self(body: String) -> String {
        body
    }

    #[idempotent(ttl_hours = 1)]
    async fn in_the_body() -> StatusCode {
        Self::CREATED
    }

    #[idempotent]
    async fn in_the_signature(State(shop): State<Self>, body: String) -> impl IntoResponse {
        drop(shop.stock);
        body
    }

    #[idempotent]
    async fn in_a_macro(body: String) -> String {
        format!("{} {body}", Self::CREATED)
    }

    #[idempotent]
    async fn by_a_bound(State(_shop): State<Shop<T>>)
    where
        Self: Sized,
    {
    }

    #[idempotent(scope = Self::tenant(&body), on_abandoned = Self::recover)]
    async fn in_the_arguments(body: String) -> String {
        body
    }

    #[idempotent]
    #[expect(unused_variables)]
    #[allow(clippy::unused_async)]
    async fn with_lints(State(shop): State<Self>) {
        let unused = 1;
    }

    fn tenant(body: &str) -> usize {
        body.len()
    }

    async fn recover(abandoned: Abandoned) -> Recovery {
        drop(abandoned);
        Recovery::Retry
    }
}

fn main() {
    let _: Router<Shop<u32>> = Router::new()
        .route("/1", post(Shop::<u32>::without_self))
        .route("/2", post(Shop::<u32>::in_the_body))
        .route("/3", post(Shop::<u32>::in_the_signature))
        .route("/4", post(Shop::<u32>::in_a_macro))
        .route("/5", post(Shop::<u32>::by_a_bound))
        .route("/6", post(Shop::<u32>::in_the_arguments))
        .route("/7", post(Shop::<u32>::with_lints));
}
