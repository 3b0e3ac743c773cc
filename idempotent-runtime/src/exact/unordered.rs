//! Which types hand over their elements in no order. The language has no word for it, so they are
//! known by name: those of `std`, and those that are called as in `std`.

/// Collections. Maps are here for code that hands one over as a list of pairs.
const COLLECTIONS: [&str; 5] = ["BinaryHeap", "DashMap", "DashSet", "HashMap", "HashSet"];

/// What a type's name begins with when it serializes as what it points to.
const POINTERS: [&str; 6] = [
    "&",
    "mut ",
    "alloc::borrow::Cow<",
    "alloc::boxed::Box<",
    "alloc::rc::Rc<",
    "alloc::sync::Arc<",
];

/// Iterators over them, also where others are built upon these.
const ITERATORS: [&str; 8] = [
    "::Difference<",
    "::Drain<",
    "::Intersection<",
    "::IntoIter<",
    "::Iter<",
    "::Keys<",
    "::Union<",
    "::Values<",
];

/// Where those iterators live. Lists have some of the same name.
const HOMES: [&str; 4] = [
    "collections::hash::map",
    "collections::hash::set",
    "hashbrown::map",
    "hashbrown::set",
];

/// Whether the type of this name has no order.
pub(super) fn is_named(mut name: &str) -> bool {
    while let Some(rest) = POINTERS.iter().find_map(|it| name.strip_prefix(it)) {
        name = rest;
    }
    let path = name.split_once('<').map_or(name, |(path, _)| path);
    let last = path.rsplit("::").next().unwrap_or(path);
    COLLECTIONS.contains(&last) || iterates(name)
}

fn iterates(name: &str) -> bool {
    HOMES.iter().any(|home| {
        let mut behind = name.split(home).skip(1);
        behind.any(|rest| ITERATORS.iter().any(|it| rest.starts_with(it)))
    })
}
