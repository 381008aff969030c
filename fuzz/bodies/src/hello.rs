//! The first message of a client that wants TLS.

use std::sync::LazyLock;

use naru_tests::Authority;
use naru_tls::{Hello, Terminator};
use tokio::io::{join, sink};

use crate::quiet::at_once;

static TERMINATOR: LazyLock<Terminator> = LazyLock::new(|| Authority::new().terminator(&["h2", "http/1.1"]));

/// Whatever comes is a hello or an error. A hello's name is short and printable, and
/// the handshake comes to an end: here, where no client goes on, to a bad one.
pub fn hello(bytes: &[u8]) {
    let read = at_once(Hello::read(join(bytes, sink())));
    let Ok(hello) = read else { return };
    if let Some(name) = hello.server_name() {
        assert!(!name.is_empty() && name.len() <= 253 + 1, "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    let finished = at_once(hello.finish(&TERMINATOR));
    assert!(finished.is_err(), "a handshake without its second half");
}
