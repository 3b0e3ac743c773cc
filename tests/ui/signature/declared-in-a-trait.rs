//! A function without a body.

use idempotent_runtime::idempotent;

pub trait Shop {
    #[idempotent]
    async fn create_order(body: String) -> String;
}

fn main() {}
