use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

fn encode<T>(label: &str, json: Option<&str>) -> Vec<u8> {
    Finished::new::<T>(label, json.map(str::to_owned)).encode()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Charge {
    id: u64,
}

mod other {
    #[derive(Debug, serde::Deserialize)]
    pub(super) struct Charge {
        #[serde(rename = "number")]
        _number: u64,
    }
}

/// A charge, then something that could not be kept, then a list.
fn progress() -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in steps() {
        append(&mut bytes, &step);
    }
    bytes
}

fn steps() -> [Vec<u8>; 3] {
    [
        encode::<Charge>("charge", Some(r#"{"id":7}"#)),
        encode::<String>("report", None),
        encode::<Vec<Charge>>("others", Some("[]")),
    ]
}

#[test]
fn steps_come_back_in_their_order() {
    let steps = FinishedSteps::decode(&progress()).unwrap();
    assert_eq!(
        steps.labels().collect::<Vec<_>>(),
        ["charge", "report", "others"]
    );
    assert_eq!(steps.result("charge").unwrap(), Some(Charge { id: 7 }));
    assert_eq!(steps.result::<Vec<Charge>>("others").unwrap().unwrap(), []);
    assert_eq!(steps.result::<Charge>("receipt").unwrap(), None);
    assert!(
        FinishedSteps::decode(&[])
            .unwrap()
            .labels()
            .next()
            .is_none()
    );
}

#[test]
fn the_bytes_are_these() {
    let mut bytes = Vec::new();
    append(&mut bytes, &encode::<Charge>("a", Some("{}")));
    append(&mut bytes, &encode::<u8>("b", None));
    assert_eq!(
        bytes,
        b"\x01\xa3\x00\x61a\x02\x66Charge\x04\x62{}\xa2\x00\x61b\x02\x62u8"
    );
}

#[test]
fn another_type_is_an_error_wherever_it_lives_and_a_moved_one_is_none() {
    let steps = FinishedSteps::decode(&progress()).unwrap();
    let error = steps.result::<u64>("charge").unwrap_err();
    assert_eq!(
        error.to_string(),
        "step `charge` has a stored result of type `Charge`, but `u64` was requested"
    );
    // Of the same name, but not of the same shape.
    let error = steps.result::<other::Charge>("charge").unwrap_err();
    assert_eq!(
        error.to_string(),
        "step `charge` has a stored result that can no longer be read as `Charge`"
    );
    assert!(std::error::Error::source(&error).is_some());
    let error = steps.result::<String>("report").unwrap_err();
    assert_eq!(error.label(), "report");
}

#[test]
fn names_of_types_have_no_paths() {
    assert_eq!(type_name::<Charge>(), "Charge");
    assert_eq!(type_name::<other::Charge>(), "Charge");
    assert_eq!(
        type_name::<Result<(Vec<Charge>, [u8; 4]), std::io::Error>>(),
        "Result<(Vec<Charge>, [u8; 4]), Error>"
    );
    assert_eq!(type_name::<()>(), "()");
}

#[test]
fn a_newer_version_is_refused_and_named() {
    let mut bytes = progress();
    bytes[0] = 9;
    assert!(matches!(
        FinishedSteps::decode(&bytes),
        Err(ProgressError::Version(9))
    ));
}

#[test]
fn unknown_optional_fields_are_left_out_and_required_ones_refused() {
    let step = |tag: u64| {
        let mut writer = Writer::new(vec![ALONE]);
        writer.map(3);
        for (tag, text) in [(0, "charge"), (2, "u8"), (tag, "of a newer release")] {
            writer.uint(tag);
            writer.text(text);
        }
        writer.finish()
    };
    let steps = FinishedSteps::decode(&step(7)).unwrap();
    assert_eq!(steps.labels().collect::<Vec<_>>(), ["charge"]);
    assert!(matches!(
        FinishedSteps::decode(&step(8)),
        Err(ProgressError::RequiredField(8))
    ));
}

#[test]
fn damage_is_an_error_and_never_a_step_less() {
    let bytes = progress();
    let mut ends = vec![1];
    for step in steps() {
        ends.push(ends.last().unwrap() + step.len());
    }
    for length in 1..bytes.len() {
        let decoded = FinishedSteps::decode(&bytes[..length]);
        assert_eq!(decoded.is_ok(), ends.contains(&length), "cut to {length}");
    }
    let twice = [&bytes[..], &bytes[1..]].concat();
    assert!(matches!(
        FinishedSteps::decode(&twice),
        Err(ProgressError::Repeated)
    ));
}

#[test]
fn results_do_not_show_in_logs() {
    let steps = FinishedSteps::decode(&progress()).unwrap();
    assert_eq!(format!("{steps:?}"), r#"["charge", "report", "others"]"#);
}

/// Each step was looked for among all before it: 12,000 of them were 72 million comparisons, and as many
/// again for the handler that asked for each.
#[test]
fn many_steps_are_found_by_their_labels() {
    let mut bytes = Vec::new();
    let labels: Vec<_> = (0..100_000).map(|n| format!("line {n}")).collect();
    for label in &labels {
        append(&mut bytes, &encode::<u8>(label, Some("7")));
    }
    let steps = FinishedSteps::decode(&bytes).unwrap();
    assert!(steps.labels().eq(labels.iter().map(String::as_str)));
    for label in &labels {
        assert_eq!(steps.result::<u8>(label).unwrap(), Some(7));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_decode_or_are_an_error(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_current in any::<bool>(),
    ) {
        if let (Some(version), true) = (bytes.first_mut(), is_current) {
            *version = ALONE;
        }
        read(&bytes);
    }

    #[test]
    fn mutated_bytes_decode_or_are_an_error(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = progress();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    }
}

/// Whatever the bytes are, nothing in reading them panics.
fn read(bytes: &[u8]) {
    if let Ok(steps) = FinishedSteps::decode(bytes) {
        for label in steps.labels() {
            let _ = steps.result::<Charge>(label);
        }
    }
}

/// Its bytes are those that other releases read.
#[test]
fn the_record_key_that_a_handler_was_told_is_no_step() {
    let key = RecordKey::from_bytes([7; 32]);
    let mut bytes = Vec::new();
    append(&mut bytes, &encode_identity(&key));
    let golden = [&b"\x01\xa1\x06\x58\x20"[..], &[7; 32]].concat();
    assert_eq!(bytes, golden);
    let mut beside = BESIDE_OTHERS.to_vec();
    append(&mut beside, &encode_identity(&key));
    assert_eq!(beside, [&[2], &golden[1..]].concat());
    let read = FinishedSteps::decode(&beside).unwrap();
    assert!(read.is_beside_others() && read.identity() == Some(key));
    let alone = FinishedSteps::decode(&bytes).unwrap();
    assert!(alone.is_empty() && !alone.is_beside_others());
    assert_eq!(alone.identity(), Some(key));
    append(
        &mut bytes,
        &Finished::new::<u32>("charge", Some("7".to_owned())).encode(),
    );
    // What another attempt has thought does not matter.
    append(
        &mut bytes,
        &encode_identity(&RecordKey::from_bytes([8; 32])),
    );
    let both = FinishedSteps::decode(&bytes).unwrap();
    assert_eq!(both.labels().collect::<Vec<_>>(), ["charge"]);
    assert_eq!(both.result::<u32>("charge").unwrap(), Some(7));
    assert_eq!(both.identity(), Some(key));
    for damaged in [&b"\x01\xa1\x06\x41\x07"[..], b"\x01\xa1\x06\x60"] {
        assert!(FinishedSteps::decode(damaged).is_err(), "{damaged:?}");
    }
}

#[test]
fn how_a_record_was_claimed_is_no_part_of_what_it_has() {
    for (longer, shorter, expected) in [
        (&b"\x01ab"[..], &b"\x02a"[..], true),
        (b"\x02ab", b"\x01ab", true),
        (b"\x02ab", b"", true),
        (b"", b"\x02", true),
        (b"", b"", true),
        (b"\x01a", b"\x02b", false),
        (b"\x01a", b"\x02ab", false),
        (b"", b"\x02a", false),
    ] {
        assert_eq!(
            begins_with(longer, shorter),
            expected,
            "{longer:?} {shorter:?}"
        );
    }
}
