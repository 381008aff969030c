//! `CONNECT`: what is in a tunnel, where it leads, how it ends.

mod asking;
mod inside;
mod passing;
mod ends;
mod swapped;
mod programs;

use std::path::Path;

use naru_tests::{Bootstrap, Naru, Wire};

const FIELDS: &str = "method: \"%REQ(:METHOD)%\"\npath: \"%REQ(:PATH)%\"\nauthority: \"%REQ(:AUTHORITY)%\"\n\
                      status: \"%RESPONSE_CODE%\"\nflags: \"%RESPONSE_FLAGS%\"\nreason: \"%REASON%\"\n\
                      cluster: \"%UPSTREAM_CLUSTER%\"\nhost: \"%UPSTREAM_HOST%\"\n\
                      attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\npeer: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%\"\n\
                      received: \"%BYTES_RECEIVED%\"\nsent: \"%BYTES_SENT%\"\nduration: \"%DURATION%\"\n";

/// No rule knows any name.
fn unrouted() -> Bootstrap {
    Bootstrap::with_virtual_hosts("- name: nobody\n  domains: [nobody.test]\n  routes: []\n").tunnels()
}

/// `db.test:5432` leads to the cluster `up`.
fn routed(settings: &str) -> Bootstrap {
    Bootstrap::with_virtual_hosts(&format!(
        "- name: db\n  domains: [\"db.test:5432\"]\n  routes:\n  \
         - {{ name: db, match: {{ prefix: / }}, route: {{ cluster: up{settings} }} }}\n"
    ))
    .tunnels()
}

const DB: &str = "db.test:5432";

fn logging(bootstrap: Bootstrap, log: &Path) -> Naru {
    Naru::start(&bootstrap.json_log(log, FIELDS))
}

/// A tunnel, opened.
async fn tunnel(naru: &Naru, destination: &str) -> Wire {
    let mut client = Wire::connect(naru.address).await;
    let head = client.ask_for_tunnel(destination).await;
    assert_eq!(head.first, "HTTP/1.1 200 OK");
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    client
}
