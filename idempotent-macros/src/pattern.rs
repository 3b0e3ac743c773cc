//! Argument patterns, for the closure that sees the handler's arguments by reference, and who uses what they bind.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{Ident, ItemFn, Pat, PatIdent, PatType, parse_quote};

/// The pattern without `mut`, `ref` and `&`, which mean nothing where everything is bound by reference.
pub(crate) fn by_reference(pattern: &Pat) -> Pat {
    struct Strip;

    impl VisitMut for Strip {
        fn visit_pat_mut(&mut self, pattern: &mut Pat) {
            while let Pat::Reference(reference) = pattern {
                *pattern = (*reference.pat).clone();
            }
            visit_mut::visit_pat_mut(self, pattern);
        }
        fn visit_pat_ident_mut(&mut self, binding: &mut PatIdent) {
            binding.mutability = None;
            binding.by_ref = None;
            visit_mut::visit_pat_ident_mut(self, binding);
        }
    }

    let mut pattern = pattern.clone();
    Strip.visit_pat_mut(&mut pattern);
    pattern
}

/// The names that the patterns bind and that the compiler misses when nothing uses them, each once. Of a
/// name with an underscore it says nothing; and using one is what a lint of clippy is about.
pub(crate) fn bindings<'a>(arguments: impl IntoIterator<Item = &'a PatType>) -> BTreeSet<Ident> {
    struct Collect(BTreeSet<Ident>);

    impl<'ast> Visit<'ast> for Collect {
        fn visit_pat_ident(&mut self, binding: &'ast PatIdent) {
            self.0.insert(binding.ident.clone());
            visit::visit_pat_ident(self, binding);
        }
    }

    let mut collect = Collect(BTreeSet::new());
    arguments
        .into_iter()
        .for_each(|it| collect.visit_pat(&it.pat));
    let mut bindings = collect.0;
    bindings.retain(|name| !name.unraw().to_string().starts_with('_'));
    bindings
}

/// Counts the names as used, which only the expansion or only an expression names.
pub(crate) fn mark_used(names: &BTreeSet<Ident>, function: &mut ItemFn) {
    if !names.is_empty() {
        let names = names.iter();
        let used = parse_quote!(let _ = (#(&#names,)*););
        function.block.stmts.insert(0, used);
    }
}

/// Whether one of the tokens is such, groups opened.
pub(crate) fn any(tokens: TokenStream, is: &dyn Fn(&TokenTree) -> bool) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => any(group.stream(), is),
        token => is(&token),
    })
}

/// Whether the name is anywhere in the tokens, in a format string too.
pub(crate) fn mentions(tokens: TokenStream, name: &str) -> bool {
    any(tokens, &|token| match token {
        TokenTree::Ident(ident) => ident.unraw() == name,
        TokenTree::Literal(literal) => captures(&literal.to_string(), name),
        _ => false,
    })
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
