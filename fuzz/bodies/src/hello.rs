//! The first message of a client that wants TLS.

use std::sync::LazyLock;

use naru_spec::Domain;
use naru_tests::Authority;
use naru_tls::{Hello, Terminator, choose_chain};
use tokio::io::{join, sink};

use crate::quiet::at_once;

static TERMINATOR: LazyLock<Terminator> = LazyLock::new(|| Authority::new().terminator(&["h2", "http/1.1"]));

/// Whatever comes is a hello or an error. A hello's name is one that a chain could be chosen by, and
/// the handshake comes to an end: here, where no client goes on, to a bad one.
pub fn hello(bytes: &[u8]) {
    let read = at_once(Hello::read(join(bytes, sink())));
    let Ok(hello) = read else { return };
    let chains = [Domain::parse("*.example.com"), Domain::parse("*"), Domain::parse("a.example.com")];
    let chains: Vec<Vec<Domain>> = chains.into_iter().map(|domain| vec![domain.expect("a domain")]).collect();
    let name = hello.server_name();
    if let Some(name) = name {
        assert!(!name.is_empty() && name.len() <= 253 + 1, "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    assert!(choose_chain(chains.iter().map(Vec::as_slice), name).is_some());
    let finished = at_once(hello.finish(&TERMINATOR));
    assert!(finished.is_err(), "a handshake without its second half");
}
