//! Randomness from a seed, so that a simulated history can be run again exactly.
//!
//! Compiled only for the simulation of this repository, and even then in force only on a thread that
//! has asked for it.

use std::cell::Cell;

use crate::record::Token;

/// How every token of a seed ends, so that a token can be recognized in a log.
pub const TOKEN_END: [u8; 4] = [0xc0, 0xff, 0xee, 0x42];

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on the tokens and the jitter of this thread come from the seed; from the operating system
/// again after `None`.
pub fn seed(seed: Option<u64>) {
    STATE.set(seed);
}

pub(crate) fn token() -> Option<Token> {
    let mut state = STATE.get()?;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next(&mut state).to_le_bytes());
    }
    STATE.set(Some(state));
    let [.., a, b, c, d] = &mut bytes;
    [*a, *b, *c, *d] = TOKEN_END;
    Some(Token::from_bytes(bytes))
}

/// The generator `SplitMix64`.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
