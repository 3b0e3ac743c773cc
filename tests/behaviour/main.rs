//! Behaviour through real HTTP on real sockets: one module for each part of the contract.

mod support;

mod abandoned;
mod bodies;
mod disconnect;
mod fingerprint;
mod in_flight;
mod keys;
mod outcomes;
mod problems;
mod replay;
mod scopes;
mod shutdown;
mod store_failures;
mod streaming;
mod waiting;
