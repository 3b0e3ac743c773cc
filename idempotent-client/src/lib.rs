//! The client half of `Idempotency-Key`: one key for one intent, kept over retries, crashes and restarts.
//!
//! A client retries a payment because the response was lost, and the customer is charged twice. A server that supports
//! `Idempotency-Key` prevents that, if the client sends **the same key and the same bytes** with every try, and never
//! makes a second key while the outcome of the first is unknown. This crate does that.
//!
//! * [`Intent`]: a key that is made once and saved before the first send.
//! * [`Policy`]: the decision after each try, as a pure function. It is tested against the table of decisions that all
//!   clients of the repository share.
//! * [`Error`]: undecided, refused, or not built; every error keeps the key. There is no way to make a new key and try
//!   again.
//!
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `reqwest` | yes | `client.post(url).intent(&intent).json(&order).send().await` |
//! | `reqwest-middleware` | no | `IntentMiddleware` |
//! | `tower` | no | `IntentLayer` for any `Service<http::Request<B>>`: hyper, tonic |
//!
//! Without features there are [`Intent`] and [`Policy::decide`], for any other client.
//!
//! The README has a complete program. Each try is a `tracing` event of level `DEBUG`; an undecided or refused call is a
//! `WARN`. Events show eight digits of a digest of the key, never the key.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "reqwest", feature = "tower")),
    allow(dead_code, reason = "without a transport, nothing is sent")
)]

#[cfg(feature = "tower")]
mod buffered;
mod clock;
mod code;
mod decision;
mod error;
mod grpc;
mod intent;
mod judge;
mod key;
mod known;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
mod open;
mod outcome;
mod policy;
mod profile;
#[cfg(feature = "reqwest")]
mod reqwest;
mod response;
mod retry_after;
mod run;
#[cfg(feature = "tower")]
mod tower;

#[cfg(feature = "tower")]
pub use buffered::{BufferLayer, BufferService, BufferedBody};
pub use clock::{Clock, Pause, SystemClock};
pub use code::Code;
pub use decision::{Conclusion, Decision, Reason};
pub use error::{Answer, BoxError, Error};
pub use intent::Intent;
pub use key::InvalidKey;
pub use known::Sent;
#[cfg(feature = "reqwest-middleware")]
pub use middleware::IntentMiddleware;
pub use outcome::Outcome;
pub use policy::{Policy, State};
pub use profile::Profile;
#[cfg(feature = "reqwest")]
pub use reqwest::{IntentExt, IntentRequest};
pub use response::ResponseExt;
#[cfg(feature = "tower")]
pub use tower::{IntentLayer, IntentService, ResponseBody};

/// The README's code, compiled.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
