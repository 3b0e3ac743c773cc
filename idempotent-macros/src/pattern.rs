//! Argument patterns, for the closure that sees the handler's arguments by reference, and who uses what they bind.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::{Expr, Ident, Pat, PatIdent, PatType, Stmt, parse_quote};

/// The pattern without `mut`, `ref` and `&`, which mean nothing where everything is bound by reference.
pub(crate) fn by_reference(pattern: &Pat) -> Pat {
    let mut pattern = pattern.clone();
    for_each(&mut pattern, &mut |pattern| {
        while let Pat::Reference(reference) = pattern {
            *pattern = (*reference.pat).clone();
        }
        if let Pat::Ident(binding) = pattern {
            (binding.mutability, binding.by_ref) = (None, None);
        }
    });
    pattern
}

/// The names that the patterns bind, each once.
pub(crate) fn bindings<'a>(arguments: impl IntoIterator<Item = &'a PatType>) -> BTreeSet<Ident> {
    let mut bindings = BTreeSet::new();
    for argument in arguments {
        for_each(&mut argument.pat.clone(), &mut |pattern| {
            if let Pat::Ident(PatIdent { ident, .. }) = pattern {
                bindings.insert(ident.clone());
            }
        });
    }
    bindings
}

/// The pattern, and then those inside of it.
fn for_each(pattern: &mut Pat, change: &mut dyn FnMut(&mut Pat)) {
    change(pattern);
    let mut inside = |pattern: &mut Pat| for_each(pattern, change);
    match pattern {
        Pat::Ident(it) => it.subpat.iter_mut().for_each(|it| inside(&mut it.1)),
        Pat::Or(it) => it.cases.iter_mut().for_each(inside),
        Pat::Paren(it) => inside(&mut it.pat),
        Pat::Reference(it) => inside(&mut it.pat),
        Pat::Slice(it) => it.elems.iter_mut().for_each(inside),
        Pat::Struct(it) => it.fields.iter_mut().for_each(|it| inside(&mut it.pat)),
        Pat::Tuple(it) => it.elems.iter_mut().for_each(inside),
        Pat::TupleStruct(it) => it.elems.iter_mut().for_each(inside),
        _ => {}
    }
}

/// A use of the names, if there are any: the compiler misses one where only the expansion or only an expression names
/// them. Of a name with an underscore it says nothing; and using one is what a lint of clippy is about.
pub(crate) fn used(names: &BTreeSet<Ident>) -> Option<Stmt> {
    let is_missed = |name: &&Ident| !name.unraw().to_string().starts_with('_');
    let missed = Vec::from_iter(names.iter().filter(is_missed));
    (!missed.is_empty()).then(|| parse_quote!(let _ = (#(&#missed,)*);))
}

/// Whether the expression uses the binding, in a format string too.
pub(crate) fn mentions(expression: &Expr, binding: &Ident) -> bool {
    has_variable(expression.to_token_stream(), &binding.unraw().to_string())
}

fn has_variable(tokens: TokenStream, name: &str) -> bool {
    let tokens = Vec::from_iter(tokens);
    let sign = |token: &TokenTree| match token {
        TokenTree::Punct(it) => it.as_char(),
        _ => ' ',
    };
    // A character for each token.
    let signs = String::from_iter(tokens.iter().map(sign));
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Group(group) => has_variable(group.stream(), name),
        TokenTree::Ident(ident) => ident.unraw() == name && is_variable(signs.split_at(at)),
        TokenTree::Literal(literal) => captures(&literal.to_string(), name),
        TokenTree::Punct(_) => false,
    })
}

/// Whether a name between these signs is not that of a field, of a method, or in a path: `app.name`, `at::name`,
/// `name::of()`, `Of { name: 1 }`. A range has two dots.
fn is_variable((before, from): (&str, &str)) -> bool {
    let is_field = before.ends_with('.') && !before.ends_with("..");
    !is_field && !before.ends_with("::") && !from.starts_with(" :")
}

/// Whether the format string captures the name: as a value, or as a width or a precision (`{:>width$}`).
fn captures(literal: &str, name: &str) -> bool {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    literal.split('{').skip(1).any(|placeholder| {
        let inside = placeholder.split('}').next().unwrap_or_default();
        let mut words = inside.split(|letter| !is_of_name(letter));
        words.any(|word| word == name || word.trim_start_matches('0') == name)
    })
}
