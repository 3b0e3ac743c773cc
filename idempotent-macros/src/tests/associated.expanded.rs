/// Starts a job.
#[must_use]
#[warn(missing_docs)]
pub async fn start(
    __a0: State<Self>,
    __last: ::idempotent_runtime::__private::IdempotentRequest<
        Path<u32>,
        impl ::idempotent_runtime::__private::Extraction<Path<u32>>,
    >,
) -> ::idempotent_runtime::__private::Response {
    __last
        .run_with(
            const {
                &::idempotent_runtime::Policy::new()
                    .lease(::core::time::Duration::from_millis(1500))
            },
            (__a0,),
            |(State(jobs),), Path(id)| {
                let _ = (&id, &jobs);
                ::idempotent_runtime::__private::Inputs::new()
                    .scope(&(Self::tenant(jobs)))
            },
            |(__a0,), __a1| Self::__idempotent_start(__a0, __a1),
        )
        .await
}
#[expect(unused_variables)]
#[warn(missing_docs)]
async fn __idempotent_start(
    State(jobs): State<Self>,
    Path(id): Path<u32>,
) -> StatusCode {
    let _ = (&jobs,);
    Self::ACCEPTED
}
