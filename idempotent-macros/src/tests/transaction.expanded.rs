async fn create_payment(
    __a0: State<Limits>,
    __last: ::idempotent_runtime::__private::IdempotentRequest<
        Json<PaymentRequest>,
        impl ::idempotent_runtime::__private::Extraction<Json<PaymentRequest>>,
        ::idempotent_runtime::Transactions<PgConnection>,
    >,
) -> ::idempotent_runtime::__private::Response {
    async fn create_payment(
        State(limits): State<Limits>,
        tx: &mut PgConnection,
        Json(payment): Json<PaymentRequest>,
    ) -> Result<Json<Payment>, PaymentError> {
        let _ = (&payment,);
        limits.check(&payment)?;
        insert(tx, payment).await
    }
    __last
        .run_with(
            const {
                &::idempotent_runtime::Policy::new()
                    .ttl(::core::time::Duration::from_millis(86400000))
            },
            (__a0,),
            |(State(limits),), Json(payment)| {
                let _ = (&limits, &payment);
                ::idempotent_runtime::__private::Inputs::new().scope(&(payment.tenant))
            },
            |(__a0,), __a1, __tx| {
                let __work = create_payment(__a0, __tx, __a1);
                ::idempotent_runtime::__private::Work.by(__work)
            },
        )
        .await
}
