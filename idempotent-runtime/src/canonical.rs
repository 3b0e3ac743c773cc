//! Canonical JSON: one spelling for each value, so that a digest compares values.
//!
//! Two JSON texts that differ only in white space, member order, escapes or the spelling of a
//! number become the same bytes, as RFC 8785 asks. One deliberate difference: RFC 8785 writes every
//! number as an IEEE 754 double, which makes the identifiers 9007199254740992 and 9007199254740993
//! equal, and 0.1 and 0.10000000000000000001. Here numbers are compared by their exact decimal value.
//!
//! A text that gives a member twice has no one value (readers disagree which of them counts), so it is
//! not canonicalized: its bytes are compared as they are.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::IgnoredAny;

/// The most zeros at the end of a whole number that are written out.
const MOST_ZEROS: usize = 40;

/// Deeper than anything that a handler's own extractor would read.
const DEEPEST: usize = 128;

/// The canonical form of a JSON text; `None` when it is no JSON, nested absurdly, or ambiguous.
pub(crate) fn canonicalize(text: &[u8]) -> Option<Vec<u8>> {
    // From here on the text is known to be JSON, so that the reader below need not doubt it.
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let mut reader = Reader {
        rest: text.trim_ascii_start(),
    };
    let mut out = Vec::with_capacity(text.len());
    reader.value(&mut out, DEEPEST)?;
    Some(out)
}

/// The canonical JSON of a value: the text itself where it cannot be made canonical.
pub(crate) fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_vec(value)?;
    Ok(canonicalize(&text).unwrap_or(text))
}

/// Reads valid JSON and writes its canonical form.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.rest.first()? {
            b'{' => self.object(out, depth)?,
            b'[' => self.array(out, depth)?,
            b'"' => write_string(self.string()?, out)?,
            b'-' | b'0'..=b'9' => write_number(self.scalar(), out)?,
            _ => out.extend_from_slice(self.scalar()),
        }
        self.space();
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.skip();
        out.push(b'[');
        while *self.rest.first()? != b']' {
            self.value(out, depth)?;
            if *self.rest.first()? == b',' {
                self.skip();
                out.push(b',');
            }
        }
        self.rest = self.rest.get(1..)?;
        out.push(b']');
        Some(())
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.skip();
        let mut members = BTreeMap::new();
        while *self.rest.first()? != b'}' {
            let name = self.string()?;
            self.space();
            // The colon.
            self.skip();
            let mut value = Vec::new();
            self.value(&mut value, depth)?;
            let name: String = serde_json::from_slice(name).ok()?;
            if members.insert(name, value).is_some() {
                return None;
            }
            if *self.rest.first()? == b',' {
                self.skip();
            }
        }
        self.rest = self.rest.get(1..)?;
        out.push(b'{');
        for (index, (name, value)) in members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, name).ok()?;
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        Some(())
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let mut end = 1;
        loop {
            match self.rest.get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.take(end + 1)
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> &'a [u8] {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        self.take(end).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// One byte of punctuation, and the space behind it.
    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
        self.space();
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

fn write_string(quoted: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text: String = serde_json::from_slice(quoted).ok()?;
    serde_json::to_writer(out, &text).ok()
}

/// Writes a whole number as such, and any other as its significant digits and a power of ten: `-12.50`
/// is `-125e-1`, `1e2` is `100`, every zero is `0`.
/// `None` for an exponent that no number in use has.
fn write_number(number: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let number = std::str::from_utf8(number).ok()?;
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (sign, mantissa) = mantissa
        .strip_prefix('-')
        .map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        out.push(b'0');
        return Some(());
    }
    let dropped = digits.len() - digits.trim_end_matches('0').len();
    let exponent: i64 = exponent.parse().ok()?;
    let exponent = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(dropped).ok()?)?;
    out.extend_from_slice(format!("{sign}{significant}").as_bytes());
    match usize::try_from(exponent) {
        // Written out, as everybody would.
        Ok(zeros) if zeros <= MOST_ZEROS => out.resize(out.len() + zeros, b'0'),
        _ => out.extend_from_slice(format!("e{exponent}").as_bytes()),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(a: &str, b: &str) -> bool {
        let canonical = |text: &str| canonicalize(text.as_bytes()).unwrap_or(text.into());
        canonical(a) == canonical(b)
    }

    #[test]
    fn spelling_does_not_matter() {
        assert!(same(
            r#"{"b":1,"a":[true,null]}"#,
            "{ \"a\" : [ true , null ],\n \"b\" : 1.0 }"
        ));
        assert!(same(r#""\u00e9\/""#, "\"é/\""));
        assert!(same("[1e2, -0.0, 0.50, -12.5E+1]", "[100, 0, 0.5, -125]"));
        assert!(same(" {} ", "{}") && same("[ ]", "[]"));
        assert!(same(r#"{"a":"\\\"}"}"#, r#"{ "a" : "\u005c\"}" }"#));
    }

    #[test]
    fn values_matter() {
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("1", "\"1\""));
        assert!(!same(r#"{"a":null}"#, "{}"));
        assert!(!same("1", "-1"));
        assert!(!same("10", "1"));
    }

    #[test]
    fn no_number_loses_a_digit() {
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("18446744073709551617", "18446744073709551616"));
        assert!(!same("0.1", "0.10000000000000000001"));
        assert!(!same("1e-400", "0"));
        assert!(!same("[1234567890.1234567]", "[1234567890.12345671]"));
        let (a, b) = (u128::MAX, u128::MAX - 1);
        assert_ne!(to_canonical(&a).unwrap(), to_canonical(&b).unwrap());
    }

    #[test]
    fn a_member_given_twice_is_compared_by_bytes() {
        assert!(!same(
            r#"{"to":"alice","to":"bob"}"#,
            r#"{"to":"mallory","to":"bob"}"#
        ));
        assert!(!same(r#"{"to":"alice","to":"bob"}"#, r#"{"to":"bob"}"#));
        assert!(!same(r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#));
    }

    #[test]
    fn maps_are_sorted_whatever_is_in_them() {
        let forward: Vec<(u32, u64)> = (0..50).map(|n| (n, u64::MAX - u64::from(n))).collect();
        let map: std::collections::HashMap<_, _> = forward.iter().copied().collect();
        let again: std::collections::HashMap<_, _> = forward.iter().rev().copied().collect();
        assert_eq!(to_canonical(&map).unwrap(), to_canonical(&again).unwrap());
    }

    #[test]
    fn absurd_nesting_and_exponents_are_compared_by_bytes() {
        assert_eq!(
            canonicalize(("[".repeat(100_000) + &"]".repeat(100_000)).as_bytes()),
            None
        );
        assert_eq!(canonicalize(b"1e99999999999999999999"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_never_panics(text in r#"[\[\]{}",:0-9eE.+\- \\utrfalsn]{0,40}"#) {
            canonicalize(text.as_bytes());
        }

        #[test]
        fn canonical_text_is_its_own_canonical_form(
            texts in proptest::collection::vec("\\PC*", 0..4),
            number in any::<f64>(),
            whole in any::<i64>(),
        ) {
            let value = serde_json::json!({ "texts": texts, "number": number, "whole": [whole, null] });
            let once = to_canonical(&value).unwrap();
            prop_assert_eq!(canonicalize(&once), Some(once.clone()));
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(canonicalize(&pretty), Some(once));
        }
    }
}
