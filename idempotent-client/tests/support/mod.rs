//! What the tests share.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test uses a part of it"
)]

pub mod clock;
pub mod rows;
pub mod server;

pub use clock::FakeClock;
pub use server::{Play, Server};
