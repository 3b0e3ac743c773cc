//! What a `macro_rules` passes on comes in invisible groups, wherever it stands.
#![deny(warnings, unused)]
#![allow(unused_parens)]

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

macro_rules! handlers {
    (
        $ttl:literal, $lease:expr, $header:literal, $required:expr, $most:expr, $name:literal,
        $vis:vis $handler:ident($first:pat_param, $first_ty:ty, $last:pat, $last_ty:ty) -> $answer:ty
            $body:block,
        $plain:ident($handle:ty, $id:ty) -> $result:ty,
        $whole:item
    ) => {
        #[idempotent(
            ttl = $ttl,
            lease = $lease,
            header = $header,
            required = $required,
            max_response_bytes = $most,
            name = $name,
        )]
        $vis async fn $handler($first: $first_ty, $last: $last_ty) -> $answer $body

        #[idempotent(name = "plain", key = id)]
        async fn $plain(handle: $handle, id: $id) -> $result {
            Ok(id)
        }

        #[idempotent]
        $whole
    };
}

handlers! {
    "24h", "30s", "X-Key", false, 1024, "handler",
    pub(crate) handler(State(_), State<Idempotency>, Path(id), Path<u64>) -> String { id.to_string() },
    plain((&(Idempotency)), u64) -> Result<u64, ExecuteError>,
    async fn whole(body: String) -> String {
        body
    }
}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/handler", post(handler))
        .route("/whole", post(whole));
    let _: fn(Idempotency) = |handle| drop(plain(&handle, 7));
}
