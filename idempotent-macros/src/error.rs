//! The one place every mistake goes to.
//!
//! A use of the attribute with three mistakes is told about all three in one compile. So nothing in this
//! crate stops at the first: it reports to [`Errors`] and goes on with what it has.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far. It has to be asked with [`Errors::finish`] before it goes out of scope; a sink
/// that is dropped with its mistakes unread panics, because the expansion would be silently wrong.
#[derive(Default)]
pub(crate) struct Errors {
    found: Vec<syn::Error>,
    asked: bool,
}

impl Errors {
    /// Reports a mistake at the tokens it was made in.
    pub(crate) fn at(&mut self, place: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(place, message));
    }

    pub(crate) fn push(&mut self, mistake: syn::Error) {
        self.found.push(mistake);
    }

    /// Every mistake as `compile_error!`s, if there are any.
    pub(crate) fn finish(mut self) -> Option<TokenStream> {
        self.asked = true;
        let mistakes = self.found.iter().map(syn::Error::to_compile_error);
        (!self.found.is_empty()).then(|| mistakes.collect())
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        let is_fine = self.asked || std::thread::panicking();
        assert!(is_fine, "mistakes were collected and never reported");
    }
}
