//! Tokens and jitter.

use crate::record::Token;

/// A new token from the operating system.
pub(super) fn token() -> std::io::Result<Token> {
    #[cfg(feature = "__simulation")]
    if let Some(token) = crate::simulation::token() {
        return Ok(token);
    }
    Token::random()
}

/// A random byte, for jitter.
pub(super) fn byte() -> u8 {
    token().map_or(128, |token| {
        let [first, ..] = *token.as_bytes();
        first
    })
}
