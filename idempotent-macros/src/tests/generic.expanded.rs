async fn create_note<'a, S: Store, const N: usize>(
    __a0: State<S>,
    __last: ::idempotent_runtime::__private::IdempotentRequest<
        String,
        impl ::idempotent_runtime::__private::Extraction<String>,
    >,
) -> ::idempotent_runtime::__private::Response
where
    S: Clone + Send + Sync + 'static,
{
    async fn create_note<'a, S: Store, const N: usize>(
        State(store): State<S>,
        body: String,
    ) -> String
    where
        S: Clone + Send + Sync + 'static,
    {
        store.put::<N>(body)
    }
    __last
        .run(
            const {
                &::idempotent_runtime::Policy::new()
                    .name("notes.create")
                    .required(false)
                    .replay_errors(::idempotent_runtime::ReplayErrors::None)
            },
            (__a0,),
            |(__a0,), __a1| create_note::<S, { N }>(__a0, __a1),
        )
        .await
}
