async fn create_payment(
    __a0: State<Ledger>,
    __last: ::idempotent_runtime::__private::IdempotentRequest<
        Json<PaymentRequest>,
        impl ::idempotent_runtime::__private::Extraction<Json<PaymentRequest>>,
    >,
) -> ::idempotent_runtime::__private::Response {
    async fn create_payment(
        State(ledger): State<Ledger>,
        Json(payment): Json<PaymentRequest>,
    ) -> Result<(StatusCode, Json<Payment>), PaymentError> {
        ledger.charge(payment).await
    }
    __last
        .run(
            const {
                &::idempotent_runtime::Policy::new()
                    .ttl(::core::time::Duration::from_millis(86400000))
            },
            (__a0,),
            |(__a0,), __a1| create_payment(__a0, __a1),
        )
        .await
}
