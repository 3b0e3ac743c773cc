//! The one place every mistake goes to.
//!
//! A use of the attribute with three mistakes is told about all three in one compile. So nothing in this
//! crate stops at the first: it reports to [`Errors`] and goes on with what it has.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far. They have to be taken with [`Errors::finish`]: a sink that is dropped with mistakes in it
/// panics, because the expansion would be silently wrong.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Reports a mistake at the tokens it was made in.
    pub(crate) fn at(&mut self, place: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(place, message));
    }

    /// Reports what must not be there, if it is.
    pub(crate) fn refuse(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        let tokens = tokens.into_token_stream();
        if !tokens.is_empty() {
            self.at(tokens, message);
        }
    }

    pub(crate) fn push(&mut self, mistake: syn::Error) {
        self.0.push(mistake);
    }

    /// Every mistake as `compile_error!`s, if there are any.
    pub(crate) fn finish(mut self) -> Option<TokenStream> {
        let found = std::mem::take(&mut self.0);
        let mistakes = found.iter().map(syn::Error::to_compile_error);
        (!found.is_empty()).then(|| mistakes.collect())
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        let is_fine = self.0.is_empty() || std::thread::panicking();
        assert!(is_fine, "mistakes were collected and never reported");
    }
}
