//! Canonical JSON: one spelling for each value, so that a digest compares values.
//!
//! Two JSON texts that differ only in white space, member order, escapes or the spelling of a
//! number become the same bytes, as RFC 8785 asks. One deliberate difference: RFC 8785 writes
//! every number as an IEEE 754 double, which makes the identifiers 9007199254740992 and
//! 9007199254740993 equal. Here an integer keeps all its digits, and a text with a number that
//! would lose some is not canonicalized at all: its bytes are compared as they are.

use serde::Serialize;
use serde_json::{Number, Value};

/// The largest integer below which every integer is exact in a double: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The canonical form of a JSON text; `None` when it is no JSON or cannot be made canonical
/// without losing digits.
pub(crate) fn canonicalize(text: &[u8]) -> Option<Vec<u8>> {
    let value = serde_json::from_slice(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    write_value(&value, &mut out)?;
    Some(out)
}

/// The canonical JSON of a value: the text itself where it cannot be made canonical.
pub(crate) fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_vec(value)?;
    Ok(canonicalize(&text).unwrap_or(text))
}

fn write_value(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => serde_json::to_writer(out, value).ok(),
        Value::Number(number) => write_number(number, out),
        Value::Array(items) => write_list(b'[', b']', items, out, write_value),
        Value::Object(members) => {
            // Sorted here and not by the map: whether serde_json's map is sorted depends on a
            // feature that any crate of the application may switch on.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            write_list(b'{', b'}', &members, out, |(name, value), out| {
                serde_json::to_writer(&mut *out, name).ok()?;
                out.push(b':');
                write_value(value, out)
            })
        }
    }
}

fn write_list<T>(
    open: u8,
    close: u8,
    items: &[T],
    out: &mut Vec<u8>,
    write: impl Fn(&T, &mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(close);
    Some(())
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Option<()> {
    match number.as_f64() {
        // A double in the text: `1.0` and `1e0` are the integer 1. Beyond 2^53 it may be an
        // integer literal that has lost digits on the way here.
        Some(double) if number.is_f64() => {
            if double.abs() >= EXACT {
                None
            } else if double.fract() == 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
                let whole = double as i64;
                serde_json::to_writer(out, &whole).ok()
            } else {
                serde_json::to_writer(out, &double).ok()
            }
        }
        _ => serde_json::to_writer(out, number).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        canonicalize(a.as_bytes()).unwrap_or(a.into())
            == canonicalize(b.as_bytes()).unwrap_or(b.into())
    }

    #[test]
    fn spelling_does_not_matter() {
        assert!(same(
            r#"{"b":1,"a":[true,null]}"#,
            "{ \"a\" : [ true , null ],\n \"b\" : 1.0 }"
        ));
        assert!(same(r#""\u00e9\/""#, "\"é/\""));
        assert!(same("[1e2, -0.0, 0.50]", "[100, 0, 0.5]"));
    }

    #[test]
    fn values_matter() {
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("1", "\"1\""));
        assert!(!same(r#"{"a":null}"#, "{}"));
        assert!(!same("0.1", "0.10000000000000002"));
    }

    #[test]
    fn no_integer_loses_a_digit() {
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("18446744073709551617", "18446744073709551616"));
        assert!(!same("-9223372036854775809", "-9223372036854775810"));
        let (a, b) = (u128::MAX, u128::MAX - 1);
        assert_ne!(to_canonical(&a).unwrap(), to_canonical(&b).unwrap());
    }

    #[test]
    fn maps_are_sorted() {
        let forward: Vec<(u32, u32)> = (0..50).map(|n| (n, n)).collect();
        let map: std::collections::HashMap<_, _> = forward.iter().copied().collect();
        let again: std::collections::HashMap<_, _> = forward.iter().rev().copied().collect();
        assert_eq!(to_canonical(&map).unwrap(), to_canonical(&again).unwrap());
    }
}
