//! An argument that only a format string names, and one with an underscore.
#![deny(warnings, unused)]

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(scope = format!("{tenant}/{user:>8}"), fingerprint = format_args!("{body}"))]
async fn handler(Path((tenant, user)): Path<(String, u32)>, body: String) -> &'static str {
    "done"
}

#[idempotent(key = format!("{id:08}/{line:?}"), name = "plain", fingerprint = ())]
async fn plain(_handle: &Idempotency, id: u64, line: u8) -> Result<u64, ExecuteError> {
    Ok(7)
}

#[idempotent(scope = tenant)]
async fn underscore(
    State(_idempotency): State<Idempotency>,
    Path(tenant): Path<String>,
    _body: String,
) -> &'static str {
    "done"
}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/{tenant}/{user}", post(handler))
        .route("/{tenant}", post(underscore));
    let _: fn(Idempotency) = |handle| drop(plain(&handle, 7, 3));
}
