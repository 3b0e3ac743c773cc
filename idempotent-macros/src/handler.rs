//! The function under the attribute: what it may look like, and what of it goes where.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, FnArg, Ident, Item, ItemFn, Macro, Meta, PatType, Safety, Signature, Token, Type,
};

use crate::error::Errors;
use crate::transaction::{self, Transaction};

/// axum implements `Handler` for functions of up to this many arguments.
const MOST_ARGUMENTS: usize = 16;

/// Attributes that describe the function to its callers and to the compiler, not what it does.
const OUTSIDE: [&str; 9] = [
    "allow",
    "cfg",
    "deny",
    "deprecated",
    "doc",
    "expect",
    "forbid",
    "must_use",
    "warn",
];

/// A function that can be made idempotent.
pub(crate) struct Handler {
    /// Stay on the outer function.
    pub(crate) outside: Vec<Attribute>,
    /// The user's function, with the attributes that act on its body.
    pub(crate) function: ItemFn,
    /// What is extracted from the request.
    pub(crate) arguments: Vec<PatType>,
    /// What is not.
    pub(crate) transaction: Option<Transaction>,
    /// Also when there was a mistake in it.
    pub(crate) has_tx: bool,
    pub(crate) home: Home,
}

/// Where the user's function goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Into the outer function.
    Inside,
    /// Next to it: `Self` means nothing in a nested function.
    Beside,
}

impl Handler {
    /// Every mistake goes to `errors`; `None` is for what is no function at all.
    pub(crate) fn parse(item: TokenStream, errors: &mut Errors) -> Option<Self> {
        let Ok(function) = syn::parse2::<ItemFn>(item.clone()) else {
            errors.push(not_a_function(item));
            return None;
        };
        check_signature(&function.sig, errors);
        check_attributes(&function, errors);
        let has_tx = typed(&function.sig).any(is_lent);
        let mut handler = Self::of(function);
        handler.has_tx = has_tx;
        handler.transaction = Transaction::take(&mut handler.function.sig, errors);
        Some(handler)
    }

    /// Says of each part where it goes.
    pub(crate) fn of(mut function: ItemFn) -> Self {
        let home = home(&function);
        let attributes = std::mem::take(&mut function.attrs);
        // Beside the outer function, an expected lint would be missed on one of the two.
        let stays = |it: &Attribute| {
            is_outside(it) && !(home == Home::Beside && it.path().is_ident("expect"))
        };
        let (outside, inside) = attributes.into_iter().partition(stays);
        function.attrs = inside;
        let is_extracted = |it: &&PatType| !is_lent(it);
        let arguments = typed(&function.sig).filter(is_extracted).cloned().collect();
        Self {
            outside,
            function,
            arguments,
            transaction: None,
            has_tx: false,
            home,
        }
    }
}

/// The function without what only this attribute understands, for when there was a mistake. It is `async`
/// even if that was the mistake, so that the places that use it have nothing to complain about.
pub(crate) fn as_written(item: TokenStream) -> TokenStream {
    let Ok(mut function) = syn::parse2::<ItemFn>(item.clone()) else {
        return item;
    };
    function
        .attrs
        .retain(|attribute| !is_named(attribute, "idempotent"));
    for argument in &mut function.sig.inputs {
        if let FnArg::Typed(argument) = argument {
            argument
                .attrs
                .retain(|attribute| !transaction::is_tx(attribute));
        }
    }
    if function.sig.constness.is_none() {
        function.sig.asyncness.get_or_insert_default();
    }
    function.into_token_stream()
}

fn check_signature(sig: &Signature, errors: &mut Errors) {
    if let Some(constness) = &sig.constness {
        errors.at(constness, "a handler cannot be `const`: remove it");
    } else if sig.asyncness.is_none() {
        let name = &sig.ident;
        errors.at(
            sig.fn_token,
            format!("a handler is `async`: write `async fn {name}`"),
        );
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        errors.at(
            unsafety,
            "a handler cannot be `unsafe`, axum calls it: put the `unsafe` inside",
        );
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, "a handler cannot be `extern`: remove it");
    }
    if let Some(variadic) = &sig.variadic {
        errors.at(
            variadic,
            "a handler has no variadic arguments: write every one",
        );
    }
    if let Some(receiver) = sig.receiver() {
        errors.at(
            receiver,
            "a handler has no `self`: take what it needs as an argument, such as `State<Self>`",
        );
    }
    let extracted = || typed(sig).filter(|argument| !is_lent(argument));
    for argument in extracted() {
        if let Type::Reference(reference) = peeled(&argument.ty) {
            let message = "an extractor is owned, and this argument is borrowed: take the value; \
                           in a function that is no handler, write the handle as `&Idempotency`, \
                           which an alias hides";
            errors.at(reference, message);
        }
    }
    if let Some(first_too_many) = extracted().nth(MOST_ARGUMENTS) {
        let message = "axum handlers have at most 16 arguments: \
                       put some of them into one tuple, or into a type with `FromRequestParts`";
        errors.at(first_too_many, message);
    }
}

fn check_attributes(function: &ItemFn, errors: &mut Errors) {
    for again in function
        .attrs
        .iter()
        .filter(|it| is_named(it, "idempotent"))
    {
        errors.at(
            again,
            "`#[idempotent]` is here twice: put all arguments into one of them",
        );
    }
    for attribute in typed(&function.sig).flat_map(|argument| &argument.attrs) {
        if is_named(attribute, "cfg") || is_named(attribute, "cfg_attr") {
            errors.at(
                attribute,
                "an argument of an idempotent handler cannot be conditional: \
                 put the `cfg` on the function and write it twice",
            );
        }
    }
}

fn not_a_function(item: TokenStream) -> syn::Error {
    const RULE: &str = "`#[idempotent]` goes on an `async fn`";
    match syn::parse2::<Item>(item) {
        Ok(Item::Impl(block)) => syn::Error::new(
            block.impl_token.span,
            format!("{RULE}: put it on the functions inside this block"),
        ),
        Ok(other) => {
            syn::Error::new_spanned(other, format!("{RULE}: this is none, remove it here"))
        }
        Err(mistake) => mistake,
    }
}

pub(crate) fn typed(sig: &Signature) -> impl Iterator<Item = &PatType> {
    sig.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}

/// The type without parentheses, and without the invisible group that a `macro_rules` variable leaves.
pub(crate) fn peeled(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

/// Whether the runtime supplies it.
fn is_lent(argument: &PatType) -> bool {
    argument.attrs.iter().any(transaction::is_tx)
}

pub(crate) fn is_named(attribute: &Attribute, name: &str) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|segment| segment.ident == name)
}

/// Whether an attribute stays on the outer function; a `cfg_attr` goes where what it stands for goes.
fn is_outside(attribute: &Attribute) -> bool {
    fn is_outside(meta: &Meta) -> bool {
        if !meta.path().is_ident("cfg_attr") {
            return OUTSIDE.iter().any(|name| meta.path().is_ident(name));
        }
        let Meta::List(list) = meta else { return true };
        let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        parts.is_ok_and(|parts| parts.iter().skip(1).all(is_outside))
    }
    matches!(attribute.style, syn::AttrStyle::Outer) && is_outside(&attribute.meta)
}

/// Whether the function says `Self`, and means its own `impl` block with it.
fn home(function: &ItemFn) -> Home {
    struct Search(Home);

    impl<'ast> Visit<'ast> for Search {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            if ident == "Self" {
                self.0 = Home::Beside;
            }
        }
        fn visit_macro(&mut self, call: &'ast Macro) {
            self.visit_tokens(call.tokens.clone());
        }
        fn visit_attribute(&mut self, attribute: &'ast Attribute) {
            self.visit_tokens(attribute.meta.to_token_stream());
        }
        /// An item inside the body has a `Self` of its own.
        fn visit_item(&mut self, _: &'ast Item) {}
    }

    impl Search {
        fn visit_tokens(&mut self, tokens: TokenStream) {
            for token in tokens {
                match token {
                    TokenTree::Group(group) => self.visit_tokens(group.stream()),
                    TokenTree::Ident(ident) => self.visit_ident(&ident),
                    _ => {}
                }
            }
        }
    }

    let mut search = Search(Home::Inside);
    visit::visit_item_fn(&mut search, function);
    search.0
}
