//! Which file of a crate imports which, as far as that can be read from the text: `use` declarations, and paths that
//! begin with `crate`, `self`, `super` or a child's name.
//!
//! It knows no macros and no types. A method that another file gives to a type is not seen, and neither is an item that
//! arrives by the re-export of a third file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The path of a module, without the crate.
type Module = Vec<String>;

/// The files of a folder that import each other in a circle, each the next one and the last one the first.
pub(crate) fn circle(sources: &Path, folder: &str) -> Option<Vec<String>> {
    let mut modules = BTreeMap::new();
    read_all(sources, &mut Module::new(), &mut modules);
    let folder: Module = folder.split('/').map(str::to_owned).collect();
    let known: BTreeSet<&Module> = modules.keys().collect();
    let within = |module: &&Module| module.starts_with(&folder);
    let imports: BTreeMap<&Module, BTreeSet<Module>> = modules
        .iter()
        .filter(|(module, _)| within(module))
        .map(|(module, text)| {
            let imported = imported_by(module, text, &known);
            (
                module,
                imported.into_iter().filter(|it| within(&it)).collect(),
            )
        })
        .collect();
    assert!(imports.len() > 1, "{folder:?} is not a folder of modules");
    let mut done = BTreeSet::new();
    let circle = imports
        .keys()
        .find_map(|module| search(module, &imports, &mut Vec::new(), &mut done))?;
    Some(circle.iter().map(|module| module.join("::")).collect())
}

fn read_all(folder: &Path, module: &mut Module, modules: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy();
        let is_own = matches!(&*stem, "mod" | "lib");
        if path.is_dir() {
            module.push(stem.into_owned());
            read_all(&path, module, modules);
            module.pop();
        } else if path.extension().is_some_and(|it| it == "rs") && stem != "tests" {
            let text = fs::read_to_string(&path).expect("a source file");
            let mut name = module.clone();
            name.extend((!is_own).then(|| stem.into_owned()));
            modules.insert(name, text);
        }
    }
}

/// Depth first; a module that is on the way already closes the circle.
fn search<'a>(
    module: &'a Module,
    imports: &'a BTreeMap<&Module, BTreeSet<Module>>,
    way: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) -> Option<Vec<&'a Module>> {
    if let Some(start) = way.iter().position(|it| *it == module) {
        return Some(way[start..].to_vec());
    }
    if done.contains(module) {
        return None;
    }
    way.push(module);
    let circle = imports[module]
        .iter()
        .find_map(|next| search(next, imports, way, done));
    way.pop();
    done.insert(module);
    circle
}

fn imported_by(module: &Module, text: &str, known: &BTreeSet<&Module>) -> BTreeSet<Module> {
    let is_child = |name: &str| {
        let child: Module = module.iter().cloned().chain([name.to_owned()]).collect();
        known.contains(&child)
    };
    let mut imported = BTreeSet::new();
    for path in paths(&tokens(text), is_child) {
        let mut target = match path[0].as_str() {
            "crate" => Module::new(),
            _ => module.clone(),
        };
        let mut segments = path.iter().map(String::as_str).peekable();
        segments.next_if(|it| matches!(*it, "crate" | "self"));
        while segments.next_if_eq(&"super").is_some() {
            target.pop();
        }
        for segment in segments {
            target.push(segment.to_owned());
            if !known.contains(&target) {
                target.pop();
                break;
            }
        }
        if target != *module {
            imported.insert(target);
        }
    }
    imported
}

/// The paths of the text that begin in this crate, those of a `use` with braces one by one.
fn paths(tokens: &[String], is_child: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let is_start = |name: &str| matches!(name, "crate" | "self" | "super") || is_child(name);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = |distance: usize| at.checked_sub(distance).map_or("", |it| &tokens[it]);
        // `pub(in path)` imports nothing.
        let is_visibility = before(1) == "in" && before(2) == "(";
        if token == "use" && matches!(before(1), "" | ";" | "}" | "{" | "]" | ")" | "pub") {
            at = tree(tokens, at + 1, &[], &mut found);
        } else if is_start(token)
            && !matches!(before(1), "::" | ".")
            && tokens.get(at + 1).is_some_and(|it| it == "::")
            && !is_visibility
        {
            let mut path = vec![token.clone()];
            while tokens.get(at + 1).is_some_and(|it| it == "::") {
                path.extend(tokens.get(at + 2).cloned());
                at += 2;
            }
            found.push(path);
            at += 1;
        } else {
            at += 1;
        }
    }
    found.retain(|path| path.first().is_some_and(|first| is_start(first)));
    found
}

/// Reads one tree of a `use`, and returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|it| it != "}") {
                    at = tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|it| it == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 2,
            "::" => at += 1,
            _ => {
                path.push(token.clone());
                at += 1;
            }
        }
    }
    found.push(path);
    at
}

/// Names, `::`, and single signs. Comments, strings and the module `tests` are left out.
fn tokens(text: &str) -> Vec<String> {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = length_of_string(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let is_name = |it: char| it.is_alphanumeric() || it == '_';
            let length = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else {
            let length = if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the string or character is that the text begins with.
fn length_of_string(text: &str) -> Option<usize> {
    let raw = text.trim_start_matches('b').strip_prefix('r');
    if let Some(raw) = raw.filter(|it| it.starts_with(['"', '#'])) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let inner = raw.get(hashes..)?.strip_prefix('"')?;
        let inner_end = inner.find(&end)? + end.len();
        return Some(text.len() - inner.len() + inner_end);
    }
    let quote = text.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            _ if character == quote => return Some(at + 1),
            // A lifetime.
            _ if quote == '\'' && !text[at + character.len_utf8()..].starts_with('\'') => {
                return None;
            }
            _ => {}
        }
    }
    None
}

#[test]
fn paths_are_read_from_the_text() {
    let text = r##"
        //! [`Gone`](super::comment::Gone)
        use super::{
            error::{self, Fault as Other},
            row::Row,
        };
        pub(in crate::outer) use child::Item;
        use std::fmt;
        const TEXT: &str = "crate::string::Item"; const RAW: &str = r#"super::"raw"::Item"#;
        fn with<'a>(it: &'a str, of: char) -> crate::store::Error { it == 'x'; child::make(it) }
        #[cfg(test)]
mod tests { use super::only_in_tests::Item; }
    "##;
    let paths = paths(&tokens(text), |name| name == "child");
    let paths: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "super::error::self",
            "super::error::Fault",
            "super::row::Row",
            "child::Item",
            "crate::store::Error",
            "child::make",
        ]
    );
}

#[test]
fn circle_is_found_over_three_files() {
    let folder = std::env::temp_dir().join(format!("imports-{}", std::process::id()));
    let part = folder.join("part");
    fs::create_dir_all(&part).expect("a folder");
    let write = |name: &str, text: &str| fs::write(part.join(name), text).expect("a file");
    write("mod.rs", "mod a;\nmod b;\nmod c;\nuse a::A;");
    write("a.rs", "use super::b::B;");
    write("b.rs", "use super::c::C;");
    write("c.rs", "pub(super) struct C;");
    assert_eq!(circle(&folder, "part"), None);
    write("c.rs", "fn c() -> crate::part::a::A { A }");
    let found = circle(&folder, "part");
    fs::remove_dir_all(&folder).expect("to be removed");
    let mut found = found.expect("a circle");
    found.sort();
    assert_eq!(found, ["part::a", "part::b", "part::c"]);
}
