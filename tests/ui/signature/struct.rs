//! A type instead of a function.

use idempotent_runtime::idempotent;

#[idempotent]
pub struct CreateOrder {
    pub quantity: u32,
}

fn main() {}
