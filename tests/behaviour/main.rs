//! Behaviour through real HTTP: one module for each part of the contract. On real sockets, but where
//! a fault has to be placed exactly or time has to stand still.

mod support;

mod abandoned;
mod background;
mod blocked_threads;
mod bodies;
mod browsers;
mod derived_keys;
#[cfg(feature = "blake3")]
mod digests;
mod disconnect;
mod ends_of_bodies;
mod execute;
mod fail_open;
mod fingerprint;
mod forgotten;
mod forwarded;
mod grace;
mod grace_between_settings;
mod handles;
mod in_flight;
mod kept_alive;
mod keys;
mod large_handlers;
mod last_argument;
mod leases;
mod lost_records;
mod observed;
mod openapi;
mod operations;
mod operator;
mod operator_races;
mod outcomes;
mod panicking_bodies;
mod partial_failure;
mod problems;
mod replay;
mod replay_cache;
mod reported;
mod runtime_ends;
mod scopes;
mod secrets;
mod shutdown;
mod stalled_clients;
mod status;
mod steps;
mod steps_kept;
mod steps_recovered;
mod steps_saved;
mod store_failures;
mod streaming;
mod takeovers;
mod testing;
mod waiting;
