//! One configuration follows another while requests are under way.

mod clusters;
mod listeners;
mod requests;

use std::net::SocketAddr;

use naru_spec::{Config, Format};
use naru_tests::Bootstrap;
use naru_tests::naru::read;

/// Answers everything with this word.
fn saying(word: &str) -> Bootstrap {
    Bootstrap::new(&format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200, body: {{ inline_string: {word:?} }} }}\n"
    ))
}

/// Sends everything to an upstream, and says in each response which snapshot did.
fn numbered(number: usize, up: SocketAddr) -> Config {
    let file = Bootstrap::new(
        "- match: { prefix: / }\n  route: { cluster: up, timeout: 0s }\n  response_headers_to_add:\n  \
         - header: { key: x-snapshot, value: none }\n",
    );
    renumbered(&read(&file.cluster("up", up, "").text()), number)
}

fn renumbered(config: &Config, number: usize) -> Config {
    let mut config = config.clone();
    let rule = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0];
    rule.response_headers.add[0].value = Format::literal(number.to_string());
    config
}
