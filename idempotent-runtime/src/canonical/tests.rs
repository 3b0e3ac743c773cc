use proptest::prelude::*;
use serde_json::Value;

use super::*;

thread_local! {
    /// How many bytes this thread has moved to their place.
    pub(super) static MOVED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// JSON without floats, which canonical JSON spells in its own way.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-c\"\\\\!é]{0,3}", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

/// The text of a value, with members in an order that the seed decides.
fn shuffle(value: &Value, seed: &mut u64, out: &mut String) {
    match value {
        Value::Array(values) => {
            out.push_str(" [ ");
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { " ,\t" } else { "" });
                shuffle(value, seed, out);
            }
            out.push_str(" ] ");
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for index in 0..members.len() {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                members.swap(index, usize::try_from(*seed >> 40).unwrap() % (index + 1));
            }
            out.push_str("{\n");
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { " , " } else { "" });
                out.push_str(&format!("{} : ", Value::from(name.as_str())));
                shuffle(value, seed, out);
            }
            out.push_str(" }");
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

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

/// As often as an object is nested, its text was copied: 120 copies of a body of 2 MB took 135 ms of a
/// request's time, 70 times what reading it took. What is counted is bytes and not time: whatever the
/// text is, it is written once, and what is out of order is moved once.
#[test]
fn a_hostile_text_costs_what_reading_it_costs() {
    let long = "x".repeat(200_000);
    let nested = (0..120).fold(format!("\"{long}\""), |inner, _| {
        format!("{{\"b\":{inner},\"a\":0}}")
    });
    let sorted = (0..120).fold(format!("\"{long}\""), |inner, _| {
        format!("{{\"a\":0,\"b\":{inner}}}")
    });
    let (canonical, copied) = copied_bytes(&nested);
    assert_eq!(canonical, sorted.as_bytes());
    assert!(copied <= 2 * nested.len(), "{copied} of {}", nested.len());
    assert_eq!(copied_bytes(&sorted), (sorted.into_bytes(), 0));
}

/// The canonical form, and how many bytes were moved to their place.
fn copied_bytes(text: &str) -> (Vec<u8>, usize) {
    MOVED.set(0);
    let canonical = canonicalize(text.as_bytes()).unwrap();
    (canonical, MOVED.get())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_never_panics(text in r#"[\[\]{}",:0-9eE.+\- \\utrfalsn]{0,40}"#) {
        canonicalize(text.as_bytes());
    }

    /// Whatever is in it, and in whatever order it came.
    #[test]
    fn members_in_any_order_are_one_value(value in values(), seed in any::<u64>()) {
        let text = value.to_string();
        let mut shuffled = String::new();
        shuffle(&value, &mut { seed }, &mut shuffled);
        prop_assert_eq!(canonicalize(shuffled.as_bytes()), canonicalize(text.as_bytes()));
        let canonical = canonicalize(text.as_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&canonical).unwrap(), value);
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
