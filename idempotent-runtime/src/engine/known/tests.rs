use super::*;
use crate::record::progress::{BESIDE_OTHERS, Finished, append, encode_identity};

const OLD: RecordKey = RecordKey::from_bytes([1; 32]);
const NEW: RecordKey = RecordKey::from_bytes([2; 32]);

/// A part of a record's progress.
#[derive(Clone, Copy)]
enum Part {
    Beside,
    Told(RecordKey),
    Step(&'static str),
}
use Part::{Beside, Step, Told};

fn progress(parts: &[Part]) -> Bytes {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Beside => bytes.extend(BESIDE_OTHERS),
            Told(key) => append(&mut bytes, &encode_identity(key)),
            Step(label) => {
                let step = Finished::new::<u32>(label, Some("7".to_owned()));
                append(&mut bytes, &step.encode());
            }
        }
    }
    bytes.into()
}

/// Of the old secret and of the new one.
type Records<'a> = [Option<&'a [Part]>; 2];

fn known(records: Records<'_>) -> (Option<RecordKey>, Vec<String>) {
    let logs = records.map(|parts| parts.map(progress));
    let sources = [OLD, NEW].iter().zip(&logs).filter_map(|(key, log)| {
        let progress = log.as_ref()?;
        let steps = FinishedSteps::decode(progress).unwrap();
        Some(Source {
            key,
            progress,
            steps,
        })
    });
    let known = Known::of(&sources.collect::<Vec<_>>());
    // What is written where nothing is stored yet is what is known.
    let written = FinishedSteps::decode(&known.progress).unwrap();
    let is_alone = records
        .iter()
        .flatten()
        .any(|parts| !matches!(parts, [Beside, ..]));
    if !known.progress.is_empty() {
        assert_eq!(written.is_beside_others(), !is_alone);
    }
    assert!(
        written
            .identity()
            .is_none_or(|said| Some(said) == known.told)
    );
    let steps = known.steps.labels().map(str::to_owned).collect();
    (known.told, steps)
}

#[test]
fn a_record_that_was_claimed_alone_names_itself() {
    let cases: [(Records<'_>, RecordKey); 8] = [
        ([Some(&[]), None], OLD),
        ([None, Some(&[])], NEW),
        // The other one is of an attempt that has done nothing, whatever it says.
        ([Some(&[]), Some(&[Beside])], OLD),
        ([Some(&[Beside]), Some(&[])], NEW),
        ([Some(&[Beside, Told(OLD)]), Some(&[])], NEW),
        ([Some(&[Beside, Told(OLD)]), Some(&[Step("a")])], NEW),
        ([Some(&[Step("a")]), Some(&[Beside, Told(OLD)])], OLD),
        // Another attempt has written it down since.
        ([Some(&[Beside, Told(NEW)]), Some(&[Told(NEW)])], NEW),
    ];
    for (number, (records, told)) in cases.into_iter().enumerate() {
        assert_eq!(known(records).0, Some(told), "case {number}");
    }
}

#[test]
fn records_that_were_claimed_together_say_what_was_told() {
    let cases: [(Records<'_>, Option<RecordKey>); 7] = [
        ([None, None], None),
        ([Some(&[Beside]), Some(&[Beside])], None),
        ([Some(&[Beside, Told(OLD)]), Some(&[Beside])], Some(OLD)),
        ([Some(&[Beside]), Some(&[Beside, Told(OLD)])], Some(OLD)),
        ([None, Some(&[Beside, Told(OLD)])], Some(OLD)),
        // An instance with the new secret alone has found the record of an attempt that had told nothing.
        ([Some(&[Beside]), Some(&[Beside, Told(NEW)])], Some(NEW)),
        (
            [
                Some(&[Beside, Told(OLD)]),
                Some(&[Beside, Told(NEW), Step("a")]),
            ],
            Some(NEW),
        ),
    ];
    for (number, (records, told)) in cases.into_iter().enumerate() {
        assert_eq!(known(records).0, told, "case {number}");
    }
}

#[test]
fn steps_are_those_of_the_fullest_record_that_goes_on_from_what_ran() {
    let cases: [(Records<'_>, &[&str]); 6] = [
        ([Some(&[Step("a")]), Some(&[Beside])], &["a"]),
        ([Some(&[Beside]), Some(&[Step("a")])], &["a"]),
        (
            [Some(&[Step("a")]), Some(&[Beside, Step("a"), Step("b")])],
            &["a", "b"],
        ),
        // What the other one has more is not of an attempt that went on from these.
        ([Some(&[Beside, Told(OLD)]), Some(&[Step("a")])], &["a"]),
        (
            [
                Some(&[Beside, Told(OLD), Step("a")]),
                Some(&[Beside, Told(OLD)]),
            ],
            &["a"],
        ),
        (
            [Some(&[Beside]), Some(&[Beside, Told(NEW), Step("a")])],
            &["a"],
        ),
    ];
    for (number, (records, steps)) in cases.into_iter().enumerate() {
        assert_eq!(known(records).1, steps, "case {number}");
    }
}
