//! Tokens and jitter.

use crate::record::Token;

/// A new token from the operating system.
pub(super) fn token() -> std::io::Result<Token> {
    Token::random()
}

/// A random byte, for jitter.
pub(super) fn byte() -> u8 {
    token().map_or(128, |token| {
        let [first, ..] = *token.as_bytes();
        first
    })
}
