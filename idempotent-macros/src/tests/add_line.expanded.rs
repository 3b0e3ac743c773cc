/// Adds a line.
#[must_use]
pub async fn add_line<'a, S: Store>(
    __a0: (u64, u32),
    __a1: Arc<Ledger<S>>,
    __a2: &'a idempotent::Idempotency,
    __a3: Line,
) -> Self::Outcome
where
    S: Clone,
{
    api::idempotent::__private::call(
            __a2,
            const {
                &api::idempotent::Policy::new()
                    .fingerprint(api::idempotent::FingerprintSource::Fields)
                    .in_flight(api::idempotent::InFlight::Wait)
                    .on_abandoned(
                        api::idempotent::OnAbandoned::Recover(|__abandoned| {
                            ::std::boxed::Box::pin(Self::recover(__abandoned))
                        }),
                    )
            },
            "lines.add",
            (__a0, __a1, __a3),
            |__a2, (__a0, __a1, __a3)| {
                let (id, line) = __a0;
                let ledger = __a1;
                let _ = __a2;
                let Line { amount, .. } = __a3;
                let _ = (&amount, &id, &ledger, &line);
                api::idempotent::__private::Inputs::new()
                    .key(&((id, line)))
                    .scope(&(Self::tenant(&ledger)))
                    .fingerprint(&(amount))
            },
            |__a2, (__a0, __a1, __a3)| async move {
                Self::__idempotent_add_line::<S>(__a0, __a1, &__a2, __a3).await
            },
        )
        .await
}
#[tracing::instrument(skip_all)]
async fn __idempotent_add_line<'a, S: Store>(
    (id, mut line): (u64, u32),
    ledger: Arc<Ledger<S>>,
    _: &'a idempotent::Idempotency,
    Line { amount, .. }: Line,
) -> Self::Outcome
where
    S: Clone,
{
    let _ = (&amount, &id, &ledger, &line);
    line += 1;
}
