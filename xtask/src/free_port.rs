//! Ports for servers that are told which one to listen on.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;

/// A port on which nothing listens now, on 127.0.0.1. None of those that the system gives to
/// connections (from 32,768 on by Linux' default): one of these could take it before the server
/// has started, or while it is restarted. Nothing listens on the port 10,000 above it either, on
/// which the nodes of a Redis Cluster talk to each other.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        // Seeded at random: crates of randomness are not worth a port.
        let port = 10_000 + (RandomState::new().hash_one(()) % 12_000) as u16;
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
