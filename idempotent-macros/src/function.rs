//! The function under the attribute: what it is, and what of it goes where.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Ident, Item, ItemFn, Meta, PatType, Signature, Token, Type};

use crate::args::Args;
use crate::error::Errors;
use crate::{pattern, signature};

/// The keywords of items that have a `Self` of their own.
const ITEMS: [&str; 4] = ["enum", "impl", "struct", "trait"];

/// Attributes that describe the function to the compiler, not what it does.
const LINTS: [&str; 6] = ["allow", "cfg", "deny", "expect", "forbid", "warn"];

/// Attributes that describe the function to its callers.
pub(crate) const FOR_CALLERS: [&str; 3] = ["deprecated", "doc", "must_use"];

/// A function that can be made idempotent.
pub(crate) struct Function {
    /// Stay on the outer function.
    pub(crate) outside: Vec<Attribute>,
    /// The user's function, with the attributes that act on its body.
    pub(crate) users: ItemFn,
    /// The arguments of the outer function: all but a connection that the runtime lends.
    pub(crate) arguments: Vec<PatType>,
    pub(crate) kind: Kind,
    /// What the user's function is called next to the outer one, which it is in an `impl` block: `Self` means nothing
    /// in a nested function.
    pub(crate) beside: Option<Ident>,
}

pub(crate) enum Kind {
    Handler,
    /// A handler with `#[tx]`: how many arguments stand before that one, and the type that it borrows.
    Transactional {
        place: usize,
        connection: Box<Type>,
    },
    /// A function without HTTP, and which of its arguments is the handle.
    Plain {
        handle: usize,
    },
}

impl Function {
    /// Every mistake goes to `errors`; what comes back is good only if there are none.
    pub(crate) fn new(mut users: ItemFn, args: &Args, errors: &mut Errors) -> Self {
        let kind = Kind::of(&users.sig);
        signature::check(&users, &kind, args, errors);
        let arguments = typed(&users.sig).filter(|it| !is_lent(it));
        let arguments = arguments.cloned().collect();
        let beside = says_self(&users).then(|| format_ident!("__idempotent_{}", users.sig.ident));
        take_off_tx(&mut users.sig);
        // Beside the outer function, an expected lint would be missed on one of the two.
        let expects = |it: &Attribute| beside.is_some() && it.path().is_ident("expect");
        let is_above = |it: &Attribute| matches!(it.style, syn::AttrStyle::Outer);
        let stays = |it: &mut Attribute| is_above(it) && is_outside(&it.meta) && !expects(it);
        let outside = users.attrs.extract_if(.., stays).collect();
        Self {
            outside,
            users,
            arguments,
            kind,
            beside,
        }
    }
}

impl Kind {
    fn of(sig: &Signature) -> Self {
        if let Some(handle) = typed(sig).position(|it| referenced_handle(it).is_some()) {
            return Self::Plain { handle };
        }
        let Some((place, lent)) = typed(sig).enumerate().find(|(_, it)| is_lent(it)) else {
            return Self::Handler;
        };
        // Another type than a reference is a mistake.
        let connection = reference(lent).map_or(&lent.ty, |it| &it.elem).clone();
        Self::Transactional { place, connection }
    }
}

/// The function without what only this attribute understands, for when there was a mistake: `async`, and with its
/// handle used, so that the compiler has nothing to add.
pub(crate) fn as_written(mut function: ItemFn) -> TokenStream {
    mark_handle_used(&mut function);
    function.attrs.retain(|it| !is_named(it, "idempotent"));
    take_off_tx(&mut function.sig);
    if function.sig.constness.is_none() {
        function.sig.asyncness.get_or_insert_default();
    }
    function.into_token_stream()
}

/// The handle counts as used: what is generated uses it.
pub(crate) fn mark_handle_used(function: &mut ItemFn) {
    let handles = typed(&function.sig).filter(|it| referenced_handle(it).is_some());
    let used = pattern::used(&pattern::bindings(handles));
    function.block.stmts.splice(0..0, used);
}

fn take_off_tx(sig: &mut Signature) {
    for argument in &mut sig.inputs {
        if let FnArg::Typed(argument) = argument {
            argument.attrs.retain(|it| !is_named(it, "tx"));
        }
    }
}

pub(crate) fn not_a_function(item: TokenStream) -> syn::Error {
    let inside = "put it on the functions inside this block";
    let (place, fix) = match syn::parse2::<Item>(item) {
        Ok(Item::Impl(block)) => (block.impl_token.to_token_stream(), inside),
        Ok(other) => (other.to_token_stream(), "remove it from this item"),
        Err(mistake) => return mistake,
    };
    let rule = format!("`#[idempotent]` goes on an `async fn`: {fix}");
    syn::Error::new_spanned(place, rule)
}

pub(crate) fn typed(sig: &Signature) -> impl Iterator<Item = &PatType> {
    sig.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}

/// The type without parentheses, and without the invisible group that a `macro_rules` variable leaves.
fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peeled(&group.elem),
        Type::Paren(paren) => peeled(&paren.elem),
        _ => ty,
    }
}

/// Whether the runtime supplies it.
pub(crate) fn is_lent(argument: &PatType) -> bool {
    argument.attrs.iter().any(|it| is_named(it, "tx"))
}

/// Its type, if that is a reference.
pub(crate) fn reference(argument: &PatType) -> Option<&syn::TypeReference> {
    match peeled(&argument.ty) {
        Type::Reference(reference) => Some(reference),
        _ => None,
    }
}

/// A reference whose path ends in `Idempotency`.
pub(crate) fn referenced_handle(argument: &PatType) -> Option<&syn::TypeReference> {
    reference(argument).filter(|it| match peeled(&it.elem) {
        Type::Path(it) => ends_in(&it.path, "Idempotency"),
        _ => false,
    })
}

/// Whether the last segment of its path is the name.
pub(crate) fn is_named(attribute: &Attribute, name: &str) -> bool {
    ends_in(attribute.path(), name)
}

fn ends_in(path: &syn::Path, name: &str) -> bool {
    path.segments.last().is_some_and(|last| last.ident == name)
}

/// Whether an attribute stays on the outer function; a `cfg_attr` goes where what it stands for goes.
fn is_outside(meta: &Meta) -> bool {
    if !meta.path().is_ident("cfg_attr") {
        let mut outside = LINTS.iter().chain(&FOR_CALLERS);
        return outside.any(|name| meta.path().is_ident(name));
    }
    let Meta::List(list) = meta else { return true };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    parts.is_ok_and(|parts| parts.iter().skip(1).all(is_outside))
}

/// Whether the function says `Self`, and means its own `impl` block with it.
fn says_self(function: &ItemFn) -> bool {
    let (attributes, sig, block) = (&function.attrs, &function.sig, &function.block);
    says_self_in(quote!(#(#attributes)* #sig), &[]) || says_self_in(quote!(#block), &ITEMS)
}

/// Whether the tokens have a `Self` outside of the items in them: each of those is passed over, up to its end.
fn says_self_in(tokens: TokenStream, items: &[&str]) -> bool {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(it) if it == "Self" => return true,
            TokenTree::Ident(it) if items.iter().any(|item| it == item) => {
                tokens.find(|it| it.to_string().ends_with(['}', ';']));
            }
            TokenTree::Group(group) if says_self_in(group.stream(), items) => return true,
            _ => {}
        }
    }
    false
}
