//! An argument that only `scope` names is used.
#![deny(warnings)]

use axum::extract::Path;
use idempotent_runtime::idempotent;

#[idempotent(scope = (&tenant, id))]
async fn create(Path((tenant, id)): Path<(String, u64)>) -> &'static str {
    "created"
}

fn main() {
    let _ = axum::Router::<idempotent_runtime::Idempotency>::new()
        .route("/{tenant}/{id}", axum::routing::post(create));
}
