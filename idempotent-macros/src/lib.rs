//! The `#[idempotent]` attribute of `idempotent-runtime`. Depend on that crate, not on this one: it re-exports the
//! attribute, and the expansion of the attribute calls it.
//!
//! The attribute reads the handler's signature and knows nothing about idempotency. It turns its arguments into
//! constants and closures, and passes them to one function of the runtime, which has all the behaviour.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use syn::ItemFn;

use crate::args::Args;
use crate::error::Errors;
use crate::function::Function;

mod above;
mod args;
mod error;
mod expand;
mod function;
mod list;
mod pattern;
mod signature;
mod value;
mod words;

#[cfg(test)]
mod tests;

/// Makes an axum handler idempotent: the handler runs at most once per key, and a retry gets the first response.
///
/// A client that gets no answer cannot know whether the request or the response was lost. It has to send the request
/// again, and a handler that charges a card charges it twice. With this attribute, the client makes a key and sends it
/// with every try. The handler runs for the first request with the key; all others get its stored response, byte for
/// byte.
///
/// ```text
/// #[idempotent(ttl_hours = 24, scope = (&user.tenant, user.id))]
/// async fn create_payment(
///     State(ledger): State<Ledger>,
///     user: User,
///     Json(payment): Json<PaymentRequest>,
/// ) -> Result<(StatusCode, Json<Payment>), PaymentError> {
///     ledger.charge(payment).await
/// }
/// ```
///
/// The router's state must provide an `Idempotency` (by `FromRef`), unless you name the handle (`with = expr`).
/// Otherwise the router does not compile: "the trait `Handler<...>` is not implemented" at `.route(..)`. The compiler
/// says the same if one of the arguments is not an extractor.
///
/// # Arguments
///
/// All arguments are optional. Each may be given once, and is a setting of `Policy` or an expression over the handler's
/// arguments. A duration is a whole number and a unit (`ms`, `s`, `m`, `h` or `d`), in quotes.
///
/// | argument | default | meaning |
/// | --- | --- | --- |
/// | `ttl_hours`, `ttl_minutes`, `ttl_secs`, or `ttl = "24h"` | 24 hours | how long a completed response is replayed, counted from its completion; at most ten years |
/// | `header = "..."` | `"Idempotency-Key"` | the request header that carries the key |
/// | `required = bool` | `true` | what happens without a key: 400, or the handler runs unprotected |
/// | `key = expr` | none | computes the key from the handler's arguments (`key = order.id`) instead of reading a header |
/// | `key_age = "any"` or `"ttl"` | `"any"` | `"ttl"` refuses a UUIDv7 or ULID in the header that is older than the TTL and has no record (400 `key-expired`), so that a late retry does not run again. Not allowed with `key` |
/// | `scope = expr` | the handle's, else none | the tenant or user that the key belongs to (`scope = (&user.tenant, user.id)`): the same key in another scope is another key; `None` is the same as no scope |
/// | `label = expr` | none | your own reference (`label = order.number`), stored in clear for operators: anything that is `Display`, at most 64 bytes |
/// | `fingerprint = body`, `json` or `expr` | `body` | what must be equal in all requests with one key: the body's bytes, the body as canonical JSON, or chosen fields (`(payment.amount, &payment.currency)`) |
/// | `fingerprint_headers = ["..."]` | the handle's | request headers that must be equal too, in addition to the handle's (`["x-api-version"]`). Do not change them while keys are alive |
/// | `lease = "..."` | `"30s"` | how long a claim lasts without renewal, and so how long a crash blocks its key; 10 ms to 24 h, whatever the TTL |
/// | `in_flight = "reject"` or `"wait"` | `"reject"` | what a duplicate of a running request gets: 409 at once, or the response of the running request |
/// | `wait = "..."` | `"5s"` | how long a duplicate waits before it gets a 409; 1 ms to 1 h, only with `in_flight = "wait"` |
/// | `on_abandoned = "reject"`, `"retry"` or a path | `"reject"` | what happens to the key of a crashed attempt: it is refused (at most once), the handler runs again (at least once), or your `async fn(Abandoned) -> Recovery` decides |
/// | `replay_errors = "all"`, `"4xx"` or `"none"` | `"all"` | which error responses are stored and replayed: 4xx and 5xx, only 4xx, or neither. An error that is not stored frees the key, and a retry runs the handler again |
/// | `max_response_bytes = n` | `1048576` | the largest body that is stored, in bytes; at most 1 GiB. A larger body is not stored, but the handler still does not run again |
/// | `name = "..."` | method and matched route, without the names of its parameters | the name of the operation, which is part of every key. Before you change a route, set it to the old one (`"POST /payments"`). Required on plain functions |
/// | `with = expr` | the router's state, by `FromRef` | where the handle is, as an expression over the handler's arguments: `with = app.idempotency`, for a state that cannot implement `FromRef`, such as `Arc<AppState>`. With `#[tx]`, the expression gives the `Transactions`. It is evaluated for each request, and its value is cloned. It may use any argument except the body |
/// | `crate = path` | `::idempotent_runtime` | the path of the runtime crate, for crates that re-export it |
///
/// # Expressions
///
/// `key`, `scope` and `fingerprint` may use every name that the handler's argument patterns bind. Their values must be
/// `Serialize`. The names are references: `user` above is a `&User`, and `scope = user.id` borrows the field. In a
/// tuple, write `&` before a field that is not `Copy`. The expressions are computed once per request, after the
/// extractors have run and before the claim is taken.
///
/// `label` sees the same names, and its value must be `Display`. It is not part of the key. A label of more than 64
/// bytes is refused before anything runs.
///
/// `key`, `scope` and `fingerprint` are compared as canonical JSON: the order of a map or a `HashSet` does not count. A
/// value that shares its JSON with another value is refused before anything runs: a float that is not finite, or a
/// `Some` that serializes as `null`, such as `Some(())`. A set of another crate is refused too if it serializes as a
/// list in arbitrary order. The crate cannot see a `HashSet` that was turned into a list before (in a
/// `serde_json::Value`, for example); a retry would then be another request, so use a `BTreeSet` there.
///
/// `fingerprint = body` and `fingerprint = json` always mean the two words of the table. If an argument is called
/// `body`, write `fingerprint = (body)` to use it.
///
/// # Transactions
///
/// A parameter with `#[tx]` is a connection that the runtime lends the handler:
///
/// ```text
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment(
///     #[tx] tx: &mut PgConnection,
///     Json(payment): Json<PaymentRequest>,
/// ) -> Result<Json<Payment>, PaymentError> {
///     sqlx::query("INSERT INTO payments ...").execute(&mut *tx).await?;
///     ...
/// }
/// ```
///
/// The handler's writes on this connection are committed together with the stored response, or not at all. A response
/// of status 4xx or 5xx rolls them back (an `Err` that becomes a 200 does not), and so does a crash, after which the
/// key is free. The router's state must provide a `Transactions<PgConnection>` by `FromRef` (or name it: `with =
/// expr`), or the router does not compile. You get it from `Idempotency::transactions`, if the records are in that
/// database. The parameter may be anywhere among the arguments, and expressions cannot use it. There is no lease, and
/// nothing is ever abandoned, so `lease` and `on_abandoned` are not allowed with it. `#[axum::debug_handler]` would
/// treat the parameter as an extractor, and cannot be used. A handler must not replace the connection (`*tx = ...`):
/// writes on another connection are not rolled back, and a retry repeats them.
///
/// # What it expands to
///
/// A function with the same name, visibility and generics. It takes the same arguments, with the last one wrapped, and
/// contains and runs your function as you wrote it:
///
/// ```text
/// async fn create_payment(
///     __a0: State<Ledger>,
///     __a1: User,
///     __last: IdempotentRequest<Json<PaymentRequest>, impl Extraction<Json<PaymentRequest>>>,
/// ) -> __private::Response {
///     async fn create_payment(/* your arguments */) -> Result<(StatusCode, Json<Payment>), PaymentError> {
///         /* your body */
///     }
///     __last.run_with(
///         const { &Policy::new().ttl(Duration::from_millis(86400000)) },
///         (__a0, __a1),
///         |(State(ledger), user), Json(payment)| Inputs::new().scope(&((&user.tenant, user.id))),
///         |(__a0, __a1), __a2| create_payment(__a0, __a1, __a2),
///     ).await
/// }
/// ```
///
/// So the arguments before the last are extracted first, on replays too: a request that fails authentication gets that
/// error, whatever is stored. The body is buffered and then given to the last extractor. For a cached replay, a `Json`
/// in last place is not parsed: it could only reject the content, which the first request has already passed.
///
/// # Plain functions
///
/// A queue delivers a message again if its acknowledgement was lost; a job is started twice. On a function with an
/// argument of type `&Idempotency` (the attribute looks for this name, and cannot see through an alias), the attribute
/// does the same without HTTP: the function runs at most once per key, and a later call with the key gets the first
/// result, as a value.
///
/// ```text
/// #[idempotent(name = "orders.settle", key = order.id, ttl_hours = 24)]
/// async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> {
///     charge(&order.card, order.amount).await
/// }
/// ```
///
/// * `key` is required. `header`, `fingerprint_headers`, `required`, `key_age`, `replay_errors`, `with`, `fingerprint =
///   body` and `fingerprint = json` are for handlers only; all other arguments are as above.
/// * `name` is required. It is the operation, which is part of every key. Give each function its own name, whatever its
///   module: two functions with one name are one operation, and the second does not run for a key of the first. All
///   instances of a generic function are one operation too: put what distinguishes them into an argument or into `key`.
/// * Without `fingerprint = expr`, calls are compared by all their arguments except the handle, as one tuple, so each
///   must be `Serialize`. With it, arguments may have any type, such as a database pool.
/// * Arguments are owned, because the function continues if its caller is dropped. The handle may be at any position,
///   and the function can use it.
/// * The function returns a `Result`. An `Ok` (`Serialize` and `DeserializeOwned`) is stored; an `Err` says that
///   **nothing happened** and frees the key. If something did happen, return `Ok`.
/// * If there is no result (a duplicate is still running, the key was used with other input, the store is unavailable),
///   the caller gets the function's own error, which must be `From<ExecuteError>`.
///
/// It expands to a function with the same signature, which contains yours:
///
/// ```text
/// async fn settle(__a0: &Idempotency, __a1: Order) -> Result<Receipt, SettleError> {
///     async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> { /* your body */ }
///     __private::call(
///         __a0,
///         const { &Policy::new().ttl(Duration::from_millis(86400000)) },
///         "orders.settle",
///         (__a1,),
///         |__a0, (__a1,)| { /* let order = __a1; */ Inputs::new().key(&(order.id)).argument(__a1) },
///         |__a0, (__a1,)| async move { settle(&__a0, __a1).await },
///     ).await
/// }
/// ```
///
/// This is a call of `Idempotency::execute`; its documentation says what is stored, and when.
///
/// # Other attributes
///
/// Documentation, `cfg`, lints, `deprecated` and `must_use` describe the outer function. Every other attribute below
/// this one goes to your function: `#[tracing::instrument]` covers your function only, and `#[axum::debug_handler]`
/// checks the arguments as you wrote them (above this attribute, it is refused). An attribute that looks up the handler
/// by its path, as documentation generators do, must be above this one: `#[utoipa::path]` below it is refused.
///
/// # Limitations
///
/// * The handler is an `async fn` with at most 16 arguments and without `self`; an associated function is fine. A plain
///   function may have more arguments.
/// * An associated function that uses the generics of its `impl` block must mention `Self` somewhere (`where Self:
///   Sized` is enough). The attribute then makes a second associated function for its body, so it cannot be used in the
///   `impl` of a trait.
/// * The outer function is for the router. To call the handler from other code, give its body a function of its own.
/// * `#[cfg]` on an argument is refused: put it on the function.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    above::check(&above::source(proc_macro::Span::call_site()), &mut errors);
    expand(args.into(), item.into(), errors).into()
}

/// Parses, validates, expands. If there are mistakes, returns them and the function as the user wrote it.
fn expand(args: TokenStream2, item: TokenStream2, mut errors: Errors) -> TokenStream2 {
    let args = Args::parse(args, &mut errors);
    let Ok(users) = syn::parse2::<ItemFn>(item.clone()) else {
        errors.push(function::not_a_function(item.clone()));
        return errors.finish().into_iter().chain([item]).collect();
    };
    let function = Function::new(users.clone(), &args, &mut errors);
    match errors.finish() {
        None => expand::function(&args, &function),
        Some(mistakes) => TokenStream2::from_iter([mistakes, function::as_written(users)]),
    }
}
