::core::compile_error! {
    "unknown argument `ttl_hour` (did you mean `ttl_hours`?): the arguments are `ttl_hours`, `ttl_minutes`, `ttl_secs`, `ttl`, `header`, `required`, `key`, `key_age`, `scope`, `label`, `fingerprint`, `fingerprint_headers`, `lease`, `in_flight`, `wait`, `on_abandoned`, `replay_errors`, `max_response_bytes`, `name`, `with` or `crate`"
}
::core::compile_error! {
    "`lease` needs a value: write `lease = \"30s\"`"
}
::core::compile_error! {
    "`required` takes `true` or `false`: write `required = false`"
}
::core::compile_error! {
    "`ttl_hours` must be more than zero and at most ten years: write `ttl_hours = 24`"
}
::core::compile_error! {
    "`ttl` sets the same as `ttl_hours`: remove one of the two"
}
::core::compile_error! {
    "a handler must be `async`: write `async fn create_payment`"
}
async fn create_payment(
    tx: &mut PgConnection,
    Json(payment): Json<PaymentRequest>,
) -> StatusCode {
    StatusCode::OK
}
