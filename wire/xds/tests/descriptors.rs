//! The committed descriptors are what their generator makes.

#[path = "../examples/trim_descriptors.rs"]
#[allow(dead_code, reason = "the example's own entry is not called here")]
mod trim_descriptors;

#[test]
fn the_committed_descriptors_are_what_the_generator_makes() {
    let committed = include_bytes!("../descriptors/envoy.bin");
    let made = trim_descriptors::trimmed().expect("cargo knows envoy-types");
    assert!(
        made == committed,
        "run: cargo run -p naru-xds --example trim_descriptors ({} bytes are committed, {} are made)",
        committed.len(),
        made.len()
    );
}
