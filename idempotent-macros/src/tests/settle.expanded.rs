async fn settle(__a0: &Idempotency, __a1: Order) -> Result<Receipt, SettleError> {
    async fn settle(
        idempotency: &Idempotency,
        order: Order,
    ) -> Result<Receipt, SettleError> {
        let _ = (&idempotency,);
        let _ = (&order,);
        charge(&order.card, order.amount).await
    }
    ::idempotent_runtime::__private::call(
            __a0,
            const {
                &::idempotent_runtime::Policy::new()
                    .ttl(::core::time::Duration::from_millis(86400000))
            },
            "orders.settle",
            (__a1,),
            |__a0, (__a1,)| {
                let idempotency = __a0;
                let order = __a1;
                let _ = (&idempotency, &order);
                ::idempotent_runtime::__private::Inputs::new()
                    .key(&(order.id))
                    .argument(__a1)
            },
            |__a0, (__a1,)| async move { settle(&__a0, __a1).await },
        )
        .await
}
