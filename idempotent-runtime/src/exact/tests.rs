use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::canonical::to_canonical;

fn text<T: Serialize>(value: T) -> Result<String, String> {
    let json = to_vec(&value).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(json).unwrap())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair<T>(T, u8);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Named<T> {
    inner: T,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice<T> {
    Unit,
    Newtype(T),
    Tuple(T, u8),
    Struct { inner: T },
}

#[derive(Serialize)]
#[serde(tag = "kind")]
enum Tagged<T> {
    Struct { inner: T },
    Newtype(Named<T>),
}

#[derive(Serialize)]
struct Flat<T> {
    id: u8,
    #[serde(flatten)]
    rest: Named<T>,
}

/// One value in each place where a value can be.
fn everywhere<T: Serialize + Clone>(value: &T) -> Vec<Result<String, String>> {
    let it = || value.clone();
    vec![
        text(it()),
        text(Some(it())),
        text([it()]),
        text(vec![it()]),
        text((0, it())),
        text(HashMap::from([("a", it())])),
        text(Newtype(it())),
        text(Pair(it(), 0)),
        text(Named { inner: it() }),
        text(Choice::Newtype(it())),
        text(Choice::Tuple(it(), 0)),
        text(Choice::Struct { inner: it() }),
        text(Tagged::Struct { inner: it() }),
        text(Tagged::Newtype(Named { inner: it() })),
        text(Flat {
            id: 0,
            rest: Named { inner: it() },
        }),
        text(Some(Box::new([Newtype(it())]))),
    ]
}

#[test]
fn floats_that_are_not_finite_are_refused_wherever_they_are() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for refused in everywhere(&value) {
            assert!(refused.unwrap_err().contains("not finite"));
        }
    }
    assert!(text(f32::NAN).is_err());
    assert!(text(HashMap::from([("a", Some(f32::INFINITY))])).is_err());
    for written in everywhere(&-0.0) {
        assert!(written.unwrap().contains("-0.0"));
    }
}

#[test]
fn a_some_that_would_read_back_as_none_is_refused_wherever_it_is() {
    fn refused<T: Serialize + Clone>(value: &T) {
        for refused in everywhere(value) {
            assert!(refused.unwrap_err().contains("reads back as `None`"));
        }
    }
    refused(&Some(()));
    refused(&Some(None::<u8>));
    refused(&Some(Unit));
    refused(&Some(Newtype(())));
    refused(&Some(Box::new(Newtype(None::<u8>))));
    refused(&Some(serde_json::Value::Null));
    assert_eq!(text(Some(Some(1))).unwrap(), "1");
    assert_eq!(text(Some(Choice::<u8>::Unit)).unwrap(), "\"Unit\"");
    assert_eq!(text((None::<u8>, (), Unit)).unwrap(), "[null,null,null]");
    assert_eq!(text(Some([(), ()])).unwrap(), "[null,null]");
    assert_eq!(
        text(Some(Choice::Newtype(()))).unwrap(),
        r#"{"Newtype":null}"#
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Nest {
    Leaf,
    List(Vec<Nest>),
    Struct { inner: Box<Nest> },
}

fn nested(levels: usize, wrap: impl Fn(Nest) -> Nest) -> Nest {
    (0..levels).fold(Nest::Leaf, |inner, _| wrap(inner))
}

/// Each of these levels is two in JSON.
#[test]
fn what_is_nested_too_deeply_to_be_read_is_refused() {
    fn check(wrap: impl Fn(Nest) -> Nest) {
        let deepest = nested(63, &wrap);
        let json = to_vec(&deepest).unwrap();
        assert_eq!(serde_json::from_slice::<Nest>(&json).unwrap(), deepest);
        let deeper = nested(64, &wrap);
        assert!(to_vec(&deeper).is_err());
        let json = serde_json::to_vec(&deeper).unwrap();
        assert!(serde_json::from_slice::<Nest>(&json).is_err());
    }
    check(|inner| Nest::List(vec![inner]));
    check(|inner| Nest::Struct {
        inner: Box::new(inner),
    });
}

#[derive(Clone, Serialize)]
#[expect(clippy::box_collection, reason = "what is in a box is what is tested")]
struct Mandate {
    scopes: HashSet<String>,
    #[serde(serialize_with = "as_names")]
    named: HashMap<String, u8>,
    shared: Box<HashSet<BTreeSet<u32>>>,
}

fn as_names<S: Serializer>(map: &HashMap<String, u8>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.keys().map(|key| key.to_uppercase()))
}

#[derive(Serialize)]
#[serde(tag = "kind")]
enum Event {
    Granted { mandate: Mandate },
}

fn mandate(words: impl Iterator<Item = u32> + Clone) -> Mandate {
    Mandate {
        scopes: words.clone().map(|n| format!("scope {n}")).collect(),
        named: words.clone().map(|n| (format!("n{n}"), 0)).collect(),
        shared: Box::new(words.map(|n| BTreeSet::from([n, n + 1])).collect()),
    }
}

/// A set is a list to serde, and equal sets have their elements in another order.
#[test]
fn equal_sets_are_one_value_wherever_they_are() {
    let (forward, backward) = (|| mandate(0..50), || mandate((0..50).rev()));
    fn one<T: Serialize>(a: T, b: T) {
        assert_eq!(to_canonical(&a).unwrap(), to_canonical(&b).unwrap());
    }
    one(forward(), backward());
    one(forward().scopes, backward().scopes);
    one(&forward().shared, &backward().shared);
    one((1, Some(vec![forward()])), (1, Some(vec![backward()])));
    one(
        Event::Granted { mandate: forward() },
        Event::Granted {
            mandate: backward(),
        },
    );
    let (a, b) = (forward(), backward());
    one(
        Flat {
            id: 1,
            rest: Named { inner: &a },
        },
        Flat {
            id: 1,
            rest: Named { inner: &b },
        },
    );
    let heap = |words: &[u32]| words.iter().copied().collect::<BinaryHeap<_>>();
    one(heap(&[1, 2, 3]), heap(&[3, 2, 1]));
}

#[test]
fn sets_that_differ_are_two_values_and_lists_keep_their_order() {
    let json = |value: serde_json::Value| value.to_string();
    let set = |words: &[u32]| words.iter().copied().collect::<HashSet<_>>();
    let canonical = |value: &dyn Fn() -> Vec<u8>| String::from_utf8(value()).unwrap();
    let sets = || to_canonical(&vec![set(&[1, 2]), set(&[0])]).unwrap();
    assert_eq!(canonical(&sets), json(json!([[1, 2], [0]])));
    let lists = || to_canonical(&vec![vec![2, 1], vec![0]]).unwrap();
    assert_eq!(canonical(&lists), json(json!([[2, 1], [0]])));
    assert_ne!(
        to_canonical(&set(&[1, 2])).unwrap(),
        to_canonical(&set(&[1, 3])).unwrap()
    );
}

#[test]
fn a_set_that_hands_over_its_elements_one_by_one_is_refused() {
    mod of_users {
        pub(super) struct DashSet(pub(super) Vec<u32>);
        impl super::Serialize for DashSet {
            fn serialize<S: super::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeSeq as _;
                let mut seq = serializer.serialize_seq(None)?;
                self.0.iter().try_for_each(|it| seq.serialize_element(it))?;
                seq.end()
            }
        }
    }
    let set = of_users::DashSet(vec![1]);
    assert!(to_canonical(&Named { inner: (&set, 1) }).is_err());
    // As a result it is what it is.
    assert_eq!(text(set).unwrap(), "[1]");
}

#[test]
fn names_of_types_say_what_has_no_order() {
    fn is_unordered<T>(_: &T) -> bool {
        unordered::is_named(std::any::type_name::<T>())
    }
    let (set, map) = (HashSet::from([1]), HashMap::from([(1, 2)]));
    let sets = vec![set.clone()];
    assert!(is_unordered(&set) && is_unordered(&&set) && is_unordered(&Box::new(Arc::new(&set))));
    assert!(is_unordered(&map.keys()) && is_unordered(&map.values().copied()));
    assert!(is_unordered(&set.iter().map(|it| it + 1)));
    assert!(is_unordered(&set.difference(&set)) && is_unordered(&map.iter()));
    assert!(!is_unordered(&sets) && !is_unordered(&sets.iter().map(HashSet::len)));
    assert!(!is_unordered(&BTreeSet::from([1])) && !is_unordered(&Some(&set)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// `serde_json` without `float_roundtrip` gives one float in three back as its neighbour.
    #[test]
    fn every_finite_float_reads_back_to_the_last_bit(bits in any::<u64>(), short in any::<u32>()) {
        let (float, single) = (f64::from_bits(bits), f32::from_bits(short));
        prop_assume!(float.is_finite() && single.is_finite());
        let json = to_vec(&(float, single)).unwrap();
        let (read, read_single): (f64, f32) = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read.to_bits(), bits);
        prop_assert_eq!(read_single.to_bits(), short);
    }
}
