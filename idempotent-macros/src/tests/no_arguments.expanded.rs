/// Answers nothing.
pub(crate) async fn ping(
    __last: ::idempotent_runtime::__private::IdempotentRequest<
        (),
        impl ::idempotent_runtime::__private::Extraction<()>,
    >,
) -> ::idempotent_runtime::__private::Response {
    async fn ping() {}
    __last.run(const { &::idempotent_runtime::Policy::new() }, (), |(), ()| ping()).await
}
