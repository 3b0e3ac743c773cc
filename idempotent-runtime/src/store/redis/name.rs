//! What the server knows a record by.

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
    pub(super) fn new(prefix: &str, key: &RecordKey) -> Self {
        let mut bytes = [0; LONGEST_PREFIX + DIGITS];
        let digits = key.as_bytes().iter();
        let digits = digits.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(prefix.bytes().chain(digits)) {
            *to = from;
            length += 1;
        }
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

fn digit(value: u8) -> u8 {
    match value {
        0..10 => b'0' + value,
        _ => b'a' - 10 + value,
    }
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
