//! A plain function: the same signature, and its arguments in a tuple.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::Pat;

use super::{answer, inputs, is_named, names, policy, shell, users_path};
use crate::args::Args;
use crate::function::Function;
use crate::pattern;

pub(super) fn function(args: &Args, function: &Function, handle: usize) -> TokenStream {
    let names = names(&function.arguments);
    let types = function.arguments.iter().map(|it| &it.ty);
    let arguments = quote!(#(#names: #types),*);
    let call = call(args, function, &names, handle);
    let output = function.users.sig.output.to_token_stream();
    shell(args, function, [arguments, output, call])
}

/// `__private::call(..).await`, located at the return type. All of it has one span: of two, the compiler would say
/// twice what it does not like.
fn call(args: &Args, function: &Function, names: &[Ident], place: usize) -> TokenStream {
    let here = Span::call_site().located_at(answer(&function.users.sig));
    let runtime = args.runtime();
    let callee = located(quote!(#runtime::__private::call), here);
    let policy = policy(args, "name");
    let operation = args.value("name").map(|it| it.setting(&runtime, "name"));
    let mut owned = names.to_vec();
    let handle = owned.remove(place);
    let inputs = expressions(args, function, names, &owned);
    let inputs = quote!(|#handle, (#(#owned,)*)| { #inputs });
    let users = users_path(function);
    let borrows = names.iter().map(|it| (*it == handle).then(|| quote!(&)));
    quote_spanned! {here=>
        #callee(
            #handle,
            #policy,
            #operation,
            (#(#owned,)*),
            #inputs,
            |#handle, (#(#owned,)*)| async move { #users(#(#borrows #names),*).await },
        )
        .await
    }
}

/// The tokens somewhere else; they mean what they meant.
fn located(tokens: TokenStream, here: Span) -> TokenStream {
    let located = tokens.into_iter().map(|mut token| {
        token.set_span(token.span().located_at(here));
        token
    });
    located.collect()
}

/// What computes the user's expressions. It is given references, so that is what the patterns bind. Without a
/// fingerprint, all arguments are it.
fn expressions(args: &Args, function: &Function, names: &[Ident], owned: &[Ident]) -> TokenStream {
    // Binding it would be of no use, which a lint of clippy is about.
    let is_unused = |it: &Ident| it.to_string().starts_with('_') && !is_named(args, it);
    let patterns = function.arguments.iter().map(|it| match &*it.pat {
        Pat::Ident(it) if is_unused(&it.ident) => quote!(_),
        pattern => pattern::by_reference(pattern).into_token_stream(),
    });
    let inputs = inputs(args, function);
    let is_chosen = args.get("fingerprint").is_some();
    let arguments = owned.iter().filter(|_| !is_chosen);
    let arguments = arguments.map(|it| quote_spanned!(it.span()=> .argument(#it)));
    quote!(#(let #patterns = #names;)* #inputs #(#arguments)*)
}
