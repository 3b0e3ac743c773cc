use std::collections::BTreeSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{ItemFn, Pat, PatType, Signature, parse_quote};

use super::Plain;
use crate::args::{Args, Call};
use crate::expand::{self, answer, body, policy, users_path};
use crate::handler::{Handler, Home};
use crate::pattern;

/// The outer function, which has the signature of the user's, and the user's inside of it or beside it.
pub(crate) fn function(args: &Args, plain: &Plain) -> TokenStream {
    let Handler {
        outside,
        function,
        home,
        arguments,
        ..
    } = &plain.parts;
    let Signature {
        asyncness,
        fn_token,
        ident,
        generics,
        output,
        ..
    } = &function.sig;
    let (vis, where_clause) = (&function.vis, &generics.where_clause);
    let (names, types) = (names(arguments), arguments.iter().map(|it| &it.ty));
    let call = call(args, plain, &names);
    let users = users_function(args, plain);
    let (inside, beside) = match home {
        Home::Inside => (Some(users), None),
        Home::Beside => (None, Some(users)),
    };
    let body = body(&function.block, quote!(#inside #call));
    quote! {
        #(#outside)*
        #vis #asyncness #fn_token #ident #generics(#(#names: #types),*) #output
        #where_clause
        #body
        #beside
    }
}

/// What the generated code calls the arguments. Each is located at its type, because that is what is wrong when
/// the compiler does not like an argument.
fn names(arguments: &[PatType]) -> Vec<Ident> {
    let name = |(index, it): (usize, &PatType)| {
        format_ident!(
            "__a{index}",
            span = Span::mixed_site().located_at(it.ty.span())
        )
    };
    arguments.iter().enumerate().map(name).collect()
}

/// `__private::call(..).await`: the one call in which everything happens, located at the return type. All of it has
/// one span: of two, the compiler would say twice what it does not like.
fn call(args: &Args, plain: &Plain, names: &[Ident]) -> TokenStream {
    let Handler { function, .. } = &plain.parts;
    let here = Span::call_site().located_at(answer(&function.sig));
    let is_name = |call: &&Call| call.method == "name";
    let (runtime, policy) = (&args.runtime, policy(args, |call| !is_name(&call)));
    let operation = args.calls.iter().find(is_name);
    let operation = operation.and_then(|call| call.value.text());
    let callee = located(quote!(#runtime::__private::call), here);
    let (handle, owned) = split(plain, names);
    let (inputs, users) = (inputs(args, plain, names), users_path(&plain.parts));
    let passed = names.iter().enumerate();
    let passed = passed.map(|(index, name)| match index == plain.handle {
        true => quote!(&#name),
        false => name.to_token_stream(),
    });
    quote_spanned! {here=>
        #callee(
            #handle,
            const { &#runtime::Policy::new() #policy },
            #operation,
            (#(#owned,)*),
            #inputs,
            |#handle, (#(#owned,)*)| async move { #users(#(#passed),*).await },
        )
        .await
    }
}

/// The tokens somewhere else; they mean what they meant.
fn located(tokens: TokenStream, here: Span) -> TokenStream {
    let locate = |mut token: TokenTree| {
        token.set_span(token.span().located_at(here));
        token
    };
    tokens.into_iter().map(locate).collect()
}

/// The handle, and the rest.
fn split<'a>(plain: &Plain, all: &'a [Ident]) -> (Option<&'a Ident>, Vec<&'a Ident>) {
    let others = all.iter().enumerate();
    let others = others.filter(|(index, _)| *index != plain.handle);
    (all.get(plain.handle), others.map(|(_, it)| it).collect())
}

/// The closure that computes the user's expressions. It is given references, so that is what the patterns bind.
/// Without a fingerprint, all arguments are it.
fn inputs(args: &Args, plain: &Plain, names: &[Ident]) -> TokenStream {
    let runtime = &args.runtime;
    let (handle, owned) = split(plain, names);
    let bind = plain.parts.arguments.iter().zip(names).map(|(it, name)| {
        let pattern = match &*it.pat {
            Pat::Ident(it) if is_unused(args, &it.ident) => quote!(_),
            pattern => pattern::by_reference(pattern).into_token_stream(),
        };
        quote!(let #pattern = #name;)
    });
    let bindings = pattern::bindings(plain.parts.arguments.iter().map(|it| &*it.pat));
    let used = (!bindings.is_empty()).then(|| quote!(let _ = (#(&#bindings,)*);));
    let calls = expand::input_calls(args);
    let arguments = match args.said("fingerprint") {
        Some(_) => None,
        None => Some(
            owned
                .iter()
                .map(|name| quote_spanned!(name.span()=> .argument(#name))),
        ),
    };
    let arguments = arguments.into_iter().flatten();
    quote! {
        |#handle, (#(#owned,)*)| {
            #(#bind)*
            #used
            #runtime::__private::Inputs::new() #(#calls)* #(#arguments)*
        }
    }
}

/// Whether to bind it would be of no use, which a lint of clippy is about.
fn is_unused(args: &Args, binding: &Ident) -> bool {
    binding.to_string().starts_with('_') && !expand::is_named(args, binding)
}

/// The user's function, as written. The handle counts as used, also where its body does not name it.
fn users_function(args: &Args, plain: &Plain) -> ItemFn {
    let mut function = expand::users_function(args, &plain.parts);
    let handle = plain.parts.arguments.get(plain.handle);
    use_bindings(
        &mut function,
        &pattern::bindings(handle.iter().map(|it| &*it.pat)),
    );
    function
}

pub(super) fn use_bindings(function: &mut ItemFn, bindings: &BTreeSet<Ident>) {
    if !bindings.is_empty() {
        let bindings = bindings.iter();
        let used = parse_quote!(let _ = (#(&#bindings,)*););
        function.block.stmts.insert(0, used);
    }
}
