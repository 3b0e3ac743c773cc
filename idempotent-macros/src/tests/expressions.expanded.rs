///Adds a line.
#[allow(clippy::unused_async)]
pub async fn add_line(
    __a0: User,
    __a1: HeaderMap,
    __a2: Path<(u64, u32)>,
    __a3: State<&'static Config>,
    __last: api::idempotent::__private::IdempotentRequest<
        Json<Line>,
        impl api::idempotent::__private::Extraction<Json<Line>>,
    >,
) -> api::idempotent::__private::Response {
    #[tracing::instrument(skip_all)]
    async fn add_line(
        mut user: User,
        _: HeaderMap,
        Path((order, mut line)): Path<(u64, u32)>,
        State(&Config { ref limits, .. }): State<&'static Config>,
        Json(Line { amount, currency: mut currency @ Currency(..), .. }): Json<Line>,
    ) -> impl IntoResponse {
        let _ = (&amount, &currency, &line, &order, &user);
        line += 1;
    }
    __last
        .run_with(
            const {
                &api::idempotent::Policy::new()
                    .fingerprint(api::idempotent::FingerprintSource::Fields)
                    .in_flight(api::idempotent::InFlight::Wait)
                    .wait(::core::time::Duration::from_millis(2000))
                    .on_abandoned(
                        api::idempotent::OnAbandoned::Recover(|__abandoned| {
                            ::std::boxed::Box::pin(recovery::ask(__abandoned))
                        }),
                    )
                    .key_from_arguments()
            },
            (__a0, __a1, __a2, __a3),
            |
                (user, _, Path((order, line)), State(Config { limits, .. })),
                Json(Line { amount, currency: currency @ Currency(..), .. })|
            {
                let _ = (&amount, &currency, &limits, &line, &order, &user);
                api::idempotent::__private::Inputs::new()
                    .scope(&(&user.tenant))
                    .key(&((order, line)))
                    .fingerprint(&((amount, &currency)))
            },
            |(__a0, __a1, __a2, __a3), __a4| add_line(__a0, __a1, __a2, __a3, __a4),
        )
        .await
}
