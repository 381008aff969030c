//! What naru tells naru in words of its own: the name of a part, a line end, and its JSON.

use naru_journey::Snapshot;
use naru_xds::discovery::Dialect;
use naru_xds::encode::resources;

/// Whatever is heard can be compiled, or is told to be wrong; and it can be said again.
pub fn ours(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((part, json)) = text.split_once('\n') else { return };
    let Some(config) = naru_xds::fuzz_part(part, json) else { return };
    let said = resources(&config, Dialect::Naru);
    assert_eq!(said, resources(&config, Dialect::Naru), "one configuration is said in two ways");
    let _ = Snapshot::compile(config);
}
