//! What the server knows a record by.

use bytes::BufMut;

use crate::key::RecordKey;

/// A prefix is no longer than this.
pub(super) const LONGEST_PREFIX: usize = 64;
const DIGITS: usize = 64;

/// The key of a record in the server: a prefix, and 64 hexadecimal digits.
pub(super) struct Name {
    bytes: [u8; LONGEST_PREFIX + DIGITS],
    length: usize,
}

impl Name {
    /// With a prefix that is not too long.
    pub(super) fn new(prefix: &str, key: &RecordKey) -> Self {
        let mut digits = [0; DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(key.as_bytes()) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let mut bytes = [0; LONGEST_PREFIX + DIGITS];
        let mut rest = &mut bytes[..];
        rest.put_slice(prefix.as_bytes());
        rest.put_slice(&digits);
        Self {
            bytes,
            length: prefix.len() + DIGITS,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

fn digit(value: u8) -> u8 {
    let after_nine = u8::from(value > 9);
    b'0' + value + after_nine * (b'a' - b'9' - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_prefix_and_hexadecimal_digits() {
        let key = RecordKey::from_bytes(std::array::from_fn(|at| at as u8 * 8));
        let digits = "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8";
        for prefix in ["p:", &"p".repeat(LONGEST_PREFIX)] {
            let name = Name::new(prefix, &key);
            let expected = format!("{prefix}{digits}");
            assert_eq!(name.as_bytes(), expected.as_bytes());
        }
    }
}
