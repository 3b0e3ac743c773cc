//! Argument patterns, for the closure that sees the handler's arguments by reference.

use std::collections::BTreeSet;

use syn::ext::IdentExt as _;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{Ident, Pat, PatIdent};

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
pub(crate) fn bindings<'a>(patterns: impl Iterator<Item = &'a Pat>) -> BTreeSet<Ident> {
    struct Collect(BTreeSet<Ident>);

    impl<'ast> Visit<'ast> for Collect {
        fn visit_pat_ident(&mut self, binding: &'ast PatIdent) {
            self.0.insert(binding.ident.clone());
            visit::visit_pat_ident(self, binding);
        }
    }

    let mut collect = Collect(BTreeSet::new());
    patterns.for_each(|pattern| collect.visit_pat(pattern));
    let mut bindings = collect.0;
    bindings.retain(|name| !name.unraw().to_string().starts_with('_'));
    bindings
}
