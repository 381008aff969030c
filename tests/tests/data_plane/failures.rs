//! What goes wrong, and what a client, the log and the counts are told of it.

mod upstreams;
mod deadlines;
mod replay;
mod retries;
mod clients;

const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

/// Everything to `up`, with this timeout.
fn with_timeout(seconds: &str) -> String {
    format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, timeout: {seconds}s }}\n")
}
