//! A method without HTTP.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

pub struct Shop;

impl Shop {
    #[idempotent(name = "settle", key = order)]
    pub async fn settle(&self, idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
        Ok(order)
    }
}

fn main() {}
