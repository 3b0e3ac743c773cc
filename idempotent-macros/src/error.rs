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

    /// The value, or nothing and one more mistake.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|mistake| self.push(mistake)).ok()
    }

    /// What was parsed if nobody found a mistake, else every mistake as `compile_error!`s.
    pub(crate) fn finish<T>(mut self, parsed: Option<T>) -> Result<T, TokenStream> {
        self.asked = true;
        match parsed {
            Some(parsed) if self.found.is_empty() => Ok(parsed),
            _ => Err(self
                .found
                .iter()
                .map(syn::Error::to_compile_error)
                .collect()),
        }
    }
}

impl Drop for Errors {
    #[expect(
        clippy::panic,
        reason = "a forgotten sink is a bug of this crate, not of its user"
    )]
    fn drop(&mut self) {
        if !self.asked && !std::thread::panicking() {
            panic!("mistakes were collected and nobody asked for them");
        }
    }
}
