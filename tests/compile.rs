//! What the attribute accepts, and what it says when it does not: one mistake a file.

#[test]
fn the_attribute_accepts_and_refuses() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/arguments/*.rs");
    cases.compile_fail("tests/ui/signature/*.rs");
    cases.compile_fail("tests/ui/types/*.rs");
}
