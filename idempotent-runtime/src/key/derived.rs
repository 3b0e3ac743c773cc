//! Derived keys: what an attempt sends to another service as its idempotency key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::hex;
use crate::digest::Frames;

const VERSION: u8 = 1;

/// Separates these digests from any other that might be made with a record key.
const DOMAIN: &[u8] = b"idempotent derived key";

/// HMAC-SHA-256 keyed by `secret` over the version byte and the length-prefixed domain and label, in
/// hexadecimal. Who has a derived key learns neither the secret nor another label's key.
pub(crate) fn derived_key(secret: &[u8; 32], label: &str) -> String {
    // HMAC pads a key with zeros to the size of a block (RFC 2104, section 2).
    let mut block = [0; 64];
    block
        .iter_mut()
        .zip(secret)
        .for_each(|(to, from)| *to = *from);
    let mac = Frames::new(Hmac::<Sha256>::new(&block.into()), VERSION)
        .field(DOMAIN)
        .field(label.as_bytes())
        .into_inner();
    hex(&mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Python's `hmac`:
    ///
    /// ```text
    /// field = lambda b: len(b).to_bytes(8, "little") + b
    /// message = b"\x01" + field(b"idempotent derived key") + field(label)
    /// hmac.new(bytes(range(32)), message, "sha256").hexdigest()
    /// ```
    #[test]
    fn the_formula_is_this() {
        let secret = std::array::from_fn(|at| u8::try_from(at).unwrap());
        for (label, key) in [
            (
                "charge",
                "f53fb0289420baac734583a9081eb131d17067629b12b1a89648dc0b940df1b5",
            ),
            (
                "",
                "af2da796fe8249bf03e86cd939ab94d7e8b7018f6b84000270e13e8f9cc39ef5",
            ),
            (
                "größe",
                "7d34f56e4b56bf90bcf5c61a022ec9a41e05c98a471171f6b8f8f75306361eb3",
            ),
        ] {
            assert_eq!(derived_key(&secret, label), key, "{label:?}");
        }
    }

    #[test]
    fn labels_and_secrets_have_keys_of_their_own() {
        let keys = [
            derived_key(&[0; 32], "charge"),
            derived_key(&[0; 32], "refund"),
            derived_key(&[1; 32], "charge"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(key.len() == 64 && !keys[..at].contains(key), "{keys:?}");
        }
    }
}
