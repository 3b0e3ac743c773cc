//! Functions without HTTP.

use proc_macro2::TokenStream;
use quote::quote;

use super::{expand, snapshot};

#[test]
fn settle() {
    let item = quote! {
        async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> {
            charge(&order.card, order.amount).await
        }
    };
    snapshot(
        "settle",
        quote!(name = "orders.settle", key = order.id, ttl_hours = 24),
        item,
    );
}

#[test]
fn associated_and_generic_with_any_patterns() {
    let args = quote! {
        key = (id, line), scope = Self::tenant(&ledger), fingerprint = amount, in_flight = "wait",
        on_abandoned = Self::recover, name = "lines.add", crate = api::idempotent
    };
    let item = quote! {
        /// Adds a line.
        #[tracing::instrument(skip_all)]
        #[must_use]
        pub async fn add_line<'a, S: Store>(
            (id, mut line): (u64, u32),
            ledger: Arc<Ledger<S>>,
            _: &'a idempotent::Idempotency,
            Line { amount, .. }: Line,
        ) -> Self::Outcome
        where
            S: Clone,
        {
            line += 1;
        }
    };
    snapshot("add_line", args, item);
}

#[test]
fn a_function_is_plain_when_it_is_lent_the_handle() {
    let is_plain = |item: TokenStream| {
        expand(quote!(name = "f", key = id), item).contains("__private :: call")
    };
    assert!(is_plain(quote! {
        async fn f(id: u64, handle: &idempotent_runtime::Idempotency) -> Result<(), E> {}
    }));
    assert!(is_plain(quote! {
        async fn f(id: u64, handle: (&(Idempotency))) -> Result<(), E> {}
    }));
    assert!(!is_plain(quote! {
        async fn f(State(handle): State<Idempotency>, Path(id): Path<u64>) -> Result<(), E> {}
    }));
    assert!(!is_plain(quote! {
        async fn f(id: u64, handle: Idempotency) -> Result<(), E> {}
    }));
}

/// How many `compile_error!`s there are.
fn mistakes(args: TokenStream, item: TokenStream) -> usize {
    expand(args, item).matches("compile_error").count()
}

#[test]
fn every_mistake_is_told_in_one_compile() {
    let item = quote! {
        const unsafe extern "C" fn settle(
            &self,
            first: &'static mut Idempotency,
            second: &Idempotency,
            #[tx] name: &str,
            #[cfg(test)] order: Order,
        ) {}
    };
    let args = quote!(
        header = "X-Key",
        required = false,
        replay_errors = "none",
        fingerprint = json
    );
    // Of the attribute six, of the signature five, of the arguments six.
    assert_eq!(mistakes(args, item), 17);
}

#[test]
fn a_key_that_is_no_expression_is_one_mistake_and_not_two() {
    let item = quote! {
        async fn settle(idempotency: &Idempotency, order: Order) -> Result<(), E> {}
    };
    let mistakes = |args: TokenStream| mistakes(quote!(name = "settle", #args), item.clone());
    assert_eq!(mistakes(quote!(key = "order")), 1);
    assert_eq!(mistakes(quote!()), 1);
    assert_eq!(mistakes(quote!(key = order.id)), 0);
}

#[test]
fn what_is_owned_or_lives_forever_is_a_good_argument() {
    let of_type = |ty: TokenStream| {
        let item = quote! {
            async fn f(h: &Idempotency, it: #ty) -> Result<(), E> {}
        };
        mistakes(quote!(name = "f", key = it), item)
    };
    for ty in [
        quote!(String),
        quote!(&'static str),
        quote!(Cow<'static, str>),
        quote!(Arc<[u8]>),
    ] {
        assert_eq!(of_type(ty.clone()), 0, "{ty}");
    }
    for ty in [quote!(&str), quote!(&'a [u8]), quote!(&mut Order)] {
        assert_eq!(of_type(ty.clone()), 1, "{ty}");
    }
}

/// Two functions of one name in two modules had one set of keys: the second was never run.
#[test]
fn a_function_without_a_name_is_a_mistake_that_says_how_to_give_it_one() {
    let item = quote! {
        async fn settle(idempotency: &Idempotency, order: Order) -> Result<(), E> {}
    };
    let refused = expand(quote!(key = order.id), item);
    assert!(
        refused.contains("needs a name") && refused.contains("orders.settle"),
        "{refused}"
    );
}

#[test]
fn a_handle_by_another_name_is_told_what_it_is_called() {
    let item = quote! {
        async fn settle(handle: &Handle, order: Order) -> Result<(), E> {}
    };
    let refused = expand(quote!(name = "settle", key = order.id), item);
    assert!(
        refused.contains("write the handle as `&Idempotency`"),
        "{refused}"
    );
}
