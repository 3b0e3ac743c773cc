//! A method.

use idempotent_runtime::idempotent;

pub struct Shop;

impl Shop {
    #[idempotent]
    pub async fn create_order(&self, body: String) -> String {
        body
    }
}

fn main() {}
