//! A whole block instead of its functions.

use idempotent_runtime::idempotent;

pub struct Shop;

#[idempotent]
impl Shop {
    pub async fn create_order(body: String) -> String {
        body
    }
}

fn main() {}
