//! Connections whose bytes are passed through: where they go, how they end, what is told of them.

mod ends;
mod names;
mod passing;
mod swapped;
mod walk;

use std::path::Path;

use naru_tests::bootstrap::json_log;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Wire};

const FIELDS: &str = "reason: \"%REASON%\"\nflags: \"%RESPONSE_FLAGS%\"\nstatus: \"%RESPONSE_CODE%\"\n\
                      method: \"%REQ(:METHOD)%\"\nprotocol: \"%PROTOCOL%\"\ncluster: \"%UPSTREAM_CLUSTER%\"\n\
                      host: \"%UPSTREAM_HOST%\"\nlocal: \"%UPSTREAM_LOCAL_ADDRESS%\"\n\
                      client: \"%DOWNSTREAM_REMOTE_ADDRESS%\"\npeer: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%\"\n\
                      came_to: \"%DOWNSTREAM_LOCAL_ADDRESS%\"\nname: \"%REQUESTED_SERVER_NAME%\"\n\
                      attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\nreceived: \"%BYTES_RECEIVED%\"\n\
                      sent: \"%BYTES_SENT%\"\nduration: \"%DURATION%\"\n";

/// One chain, and a log.
fn logging(lines: &str, log: &Path) -> Bootstrap {
    Bootstrap::tcp(&format!("{lines}\n{}", json_log(log, FIELDS)))
}

/// Both ends of a connection that stands.
async fn connected(naru: &Naru, up: &WireListener) -> (Wire, Wire) {
    let mut client = Wire::connect(naru.address).await;
    client.send("hello").await;
    let mut upstream = up.accept().await;
    upstream.expect(b"hello").await;
    (client, upstream)
}
