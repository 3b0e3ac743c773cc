use proptest::prelude::*;
use sfv::{BareItem, ItemSerializer, Parser};

use super::*;

fn record_key(namespace: &str, operation: &str, scope: Option<&[u8]>, key: &[u8]) -> RecordKey {
    let key = Key::from_serialized(key.to_vec());
    RecordKeys::new(namespace, [None])
        .derive(operation, scope, &key)
        .first()
}

/// What (namespace, operation, scope, key) may be, from few enough letters that two of them often
/// are the same when written one behind the other.
fn parts() -> impl Strategy<Value = (String, String, Option<Vec<u8>>, Vec<u8>)> {
    let scope = proptest::option::of(proptest::collection::vec(0u8..3, 0..3));
    (
        "[ab]{0,2}",
        "[ab]{0,2}",
        scope,
        proptest::collection::vec(0u8..3, 0..3),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn record_keys_are_equal_exactly_when_all_parts_are(a in parts(), b in parts()) {
        let key_a = record_key(&a.0, &a.1, a.2.as_deref(), &a.3);
        let key_b = record_key(&b.0, &b.1, b.2.as_deref(), &b.3);
        prop_assert_eq!(a == b, key_a == key_b);
    }

    #[test]
    fn a_byte_moved_over_a_boundary_is_another_record_key(text in "[a-z]{4,12}", at in 1usize..3) {
        let (namespace, rest) = text.split_at(at);
        let (operation, key) = rest.split_at(at);
        let (moved_namespace, moved_rest) = text.split_at(at + 1);
        prop_assert_ne!(
            record_key(namespace, operation, None, key.as_bytes()),
            record_key(moved_namespace, operation, None, key.as_bytes())
        );
        let (moved_operation, moved_key) = moved_rest.split_at(at - 1);
        prop_assert_ne!(
            record_key(namespace, operation, None, key.as_bytes()),
            record_key(moved_namespace, moved_operation, None, moved_key.as_bytes())
        );
    }

    #[test]
    fn the_parser_never_panics(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        for syntax in [KeySyntax::Lenient, KeySyntax::Strict] {
            if let Ok(key) = Key::parse(&value, syntax) {
                prop_assert!((1..=Key::MAX_BYTES).contains(&key.as_bytes().len()));
                prop_assert!(key.as_bytes().iter().all(|byte| (0x20..=0x7e).contains(byte)));
            }
        }
    }

    /// `sfv` is the oracle for everything that begins with a quote, except that we take neither an
    /// empty key nor parameters.
    #[test]
    fn quoted_strings_are_read_as_sfv_reads_them(inside in r#"[ -~"\\\x00-\x1f\x7f-\xff]{0,40}"#) {
        let value = format!("\"{inside}");
        agrees_with_sfv(value.as_bytes())?;
        let value = format!("\"{inside}\"");
        agrees_with_sfv(value.as_bytes())?;
    }

    #[test]
    fn what_sfv_writes_is_read_back(text in "[ -~]{1,255}") {
        let string = sfv::StringRef::from_str(&text).unwrap();
        let value = ItemSerializer::new().bare_item(string).finish();
        let key = Key::parse(value.as_bytes(), KeySyntax::Strict).unwrap();
        prop_assert_eq!(key.as_bytes(), text.as_bytes());
    }
}

fn agrees_with_sfv(value: &[u8]) -> Result<(), TestCaseError> {
    let ours = Key::parse(value, KeySyntax::Strict).map(|key| key.as_bytes().to_vec());
    // Surrounding white space: sfv takes spaces, a header's value has none, and we trim.
    let theirs = Parser::new(value.trim_ascii()).parse::<sfv::Item>();
    match theirs.map(|item| (item.bare_item, item.params.is_empty())) {
        Ok((BareItem::String(text), true)) if text.as_str().is_empty() => {
            prop_assert_eq!(ours, Err(InvalidKey::Empty));
        }
        Ok((BareItem::String(text), true)) => {
            prop_assert_eq!(ours.as_deref(), Ok(text.as_str().as_bytes()));
        }
        _ => prop_assert!(ours.is_err(), "{value:?} is read as {ours:?}"),
    }
    Ok(())
}

#[test]
fn the_secret_and_the_namespace_change_every_record_key() {
    let key = Key::from_serialized(b"key".to_vec());
    let derive = |namespace, secret: Option<&[u8]>| {
        let keys = RecordKeys::new(namespace, [secret]);
        keys.derive("op", None, &key).first()
    };
    let all = [
        derive("", None),
        derive("shop", None),
        derive("", Some(b"s")),
        derive("shop", Some(b"s")),
        derive("", Some(b"other")),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().skip(index + 1).all(|other| one != other));
    }
    assert_eq!(derive("shop", Some(b"s")), derive("shop", Some(b"s")));
}

/// The oldest first: two instances that share a secret meet at the first key that they share.
#[test]
fn there_is_a_record_key_for_each_secret_in_their_order() {
    let key = Key::from_serialized(b"key".to_vec());
    let derive = |secrets: &[Option<&[u8]>]| -> Vec<RecordKey> {
        let keys = RecordKeys::new("", secrets.iter().copied());
        keys.derive("op", None, &key).iter().copied().collect()
    };
    let [none, a, b] = [None, Some(&b"a"[..]), Some(&b"b"[..])];
    let all = derive(&[none, a, b]);
    assert_eq!(all, [derive(&[none]), derive(&[a]), derive(&[b])].concat());
}

#[test]
fn check_values_tell_secrets_and_namespaces_apart() {
    let values = |namespace, secrets: &[Option<&[u8]>]| {
        RecordKeys::new(namespace, secrets.iter().copied()).check_values()
    };
    let (a, b) = (Some(&b"a"[..]), Some(&b"b"[..]));
    let (key, both) = values("shop", &[a, b]);
    assert_eq!(
        both,
        [values("shop", &[a]).1, values("shop", &[b]).1].concat()
    );
    assert_ne!(both[0], both[1]);
    assert_eq!(values("shop", &[None]).0, key);
    let (other, of_other) = values("", &[a, None]);
    assert_ne!(other, key);
    assert!(!both.contains(&of_other[0]) && !both.contains(&of_other[1]));
}

#[test]
fn nobodys_scope_is_no_scope() {
    let none = record_key("", "op", None, b"k");
    assert_eq!(record_key("", "op", Some(b"null"), b"k"), none);
    assert_ne!(record_key("", "op", Some(b"\"null\""), b"k"), none);
    assert_ne!(record_key("", "op", Some(b""), b"k"), none);
}

/// A record key is stored for a day and read by the next release: this value must not change
/// without a new version byte.
#[test]
fn record_keys_stay_what_they_are() {
    let key = record_key("shop", "POST /pay", Some(b"7"), b"abc");
    let hex: String = key
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let input = b"\x01\
        \x04\0\0\0\0\0\0\0shop\
        \x09\0\0\0\0\0\0\0POST /pay\
        \x01\x01\0\0\0\0\0\0\x007\
        \x03\0\0\0\0\0\0\0abc";
    let by_hand: [u8; 32] = Sha256::digest(input).into();
    assert_eq!(key.as_bytes(), &by_hand, "{hex}");
}

#[test]
fn a_key_of_text_is_any_text_of_1_to_255_bytes() {
    let read = |text: &str| Key::from_text(text).map(|key| key.as_str().to_owned());
    for text in ["a", "zahlung \u{fc}\n\"7\"", &"k".repeat(Key::MAX_BYTES)] {
        assert_eq!(read(text), Ok(text.to_owned()));
    }
    assert_eq!(read(""), Err(InvalidKey::Empty));
    assert_eq!(read(&"\u{fc}".repeat(128)), Err(InvalidKey::TooLong));
}

/// As a message's id and as a header's value, a key is the same.
#[test]
fn a_key_of_text_is_the_key_of_a_header() {
    let of_header = Key::parse(b"\"order 1\"", KeySyntax::Strict);
    assert_eq!(Key::from_text("order 1"), of_header);
}

#[test]
fn debug_and_display_show_no_key() {
    let key = Key::parse(b"secret-key", KeySyntax::Lenient).unwrap();
    assert_eq!(format!("{key:?}"), "Key(10 bytes)");
    assert_eq!(RecordKey::from_bytes([0xab; 32]).to_string(), "abababab");
}
