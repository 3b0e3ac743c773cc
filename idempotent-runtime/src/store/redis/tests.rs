use super::*;

#[test]
fn only_plain_prefixes_are_taken() {
    let store = || RedisStore::new(());
    for good in ["idempotent:", "a", "Payments_1/eu-west.2:"] {
        assert!(store().with_prefix(good).is_ok(), "{good}");
    }
    for bad in ["", "{slot}:", "a b", "a*", "\u{e4}", "a\n", &"p".repeat(65)] {
        let error = store().with_prefix(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{bad}");
    }
}

#[test]
fn debug_shows_no_password() {
    let client = connect::client("redis://user:secret@host").unwrap();
    let debug = format!("{:?}", RedisStore::new(()).with_notifications(client));
    assert!(debug.contains("idempotent:done"), "{debug}");
    assert!(!debug.contains("secret"), "{debug}");
}
