//! What documents a route has to see the function that the router is given: it has to be above.

use idempotent_runtime::idempotent;

/// Stands for the crate of this name: it is recognised by the last part of the path.
mod utoipa {
    pub(crate) use axum::debug_handler as path;
}

#[idempotent]
#[utoipa::path]
async fn create_order(body: String) -> String {
    body
}

fn main() {}
