//! `#[tx]`: the parameter that the runtime supplies, a connection lent for one transaction.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, FnArg, Meta, Signature, Type, TypeReference};

use crate::args::Args;
use crate::error::Errors;
use crate::handler::peeled;

/// The parameter, taken out of the arguments that are extracted from the request.
pub(crate) struct Transaction {
    /// How many arguments stand before it.
    pub(crate) place: usize,
    /// What it refers to: the type of the connection.
    pub(crate) connection: Type,
}

impl Transaction {
    /// Takes the attribute off the signature. `None` when there is none, or a mistake.
    pub(crate) fn take(sig: &mut Signature, errors: &mut Errors) -> Option<Self> {
        let mut found = None;
        for (place, argument) in sig.inputs.iter_mut().enumerate() {
            let FnArg::Typed(argument) = argument else {
                continue;
            };
            let Some(attribute) = take_attribute(&mut argument.attrs) else {
                continue;
            };
            if !matches!(attribute.meta, Meta::Path(_)) {
                errors.at(
                    &attribute,
                    "`#[tx]` has no arguments: the type says which database",
                );
            }
            if found.is_some() {
                let rule = "a handler runs in one transaction: remove the second `#[tx]`";
                errors.at(attribute, rule);
                continue;
            }
            found = Some((place, connection(&argument.ty, errors)));
        }
        let (place, connection) = found?;
        Some(Self {
            place,
            connection: connection?,
        })
    }

    /// A list of the other arguments with this one in its place.
    pub(crate) fn put(&self, name: &TokenStream, others: Vec<TokenStream>) -> TokenStream {
        let mut arguments = others;
        arguments.insert(self.place.min(arguments.len()), name.clone());
        quote!(#(#arguments),*)
    }
}

fn take_attribute(attributes: &mut Vec<Attribute>) -> Option<Attribute> {
    let place = attributes.iter().position(is_tx)?;
    Some(attributes.remove(place))
}

pub(crate) fn is_tx(attribute: &Attribute) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|segment| segment.ident == "tx")
}

fn connection(ty: &Type, errors: &mut Errors) -> Option<Type> {
    match peeled(ty) {
        Type::Reference(TypeReference {
            mutability: Some(_),
            elem,
            ..
        }) => Some((**elem).clone()),
        _ => {
            let rule = "`#[tx]` lends the handler a connection, which the runtime commits: \
                        write `&mut PgConnection`, `&mut SqliteConnection` or `&mut MySqlConnection`";
            errors.at(ty, rule);
            None
        }
    }
}

/// Arguments of the attribute that mean nothing in a transaction.
pub(crate) fn check(args: &Args, errors: &mut Errors) {
    for call in &args.calls {
        let rule = if call.method == "lease" {
            "a transaction has no lease, it ends with its connection: remove `lease`"
        } else if call.method == "on_abandoned" {
            "a transaction that was not committed has left nothing behind, so no key is abandoned: \
             remove `on_abandoned`"
        } else {
            continue;
        };
        errors.at(&call.method, rule);
    }
}
