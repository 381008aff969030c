//! TLS of the xDS server: its certificate, and whom it lets in. Files are looked at again and again, so that they can be
//! renewed while proxies are connected.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use anyhow::{Context as _, bail};
use naru_discovery::{ControlPlane, Keys};
use naru_spec::{Certificate, DataSource, DownstreamTls};
use naru_tls::Terminator;

use crate::cli::XdsTlsArgs;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Listens, and looks after the files from now on. A runtime for tasks of one thread is entered.
pub fn start(address: SocketAddr, is_insecure: bool, args: &XdsTlsArgs) -> anyhow::Result<Rc<ControlPlane>> {
    let tls = settings(args);
    // What is told holds private keys: whoever gets it has to be known, unless somebody insists.
    if !address.ip().is_loopback() && args.client_ca.is_none() && !is_insecure {
        bail!(
            "{address} can be reached from other machines, and to whoever connects everything is told, private keys \
             among it: say --tls-certificate, --tls-key and --client-ca, so that only those are told who show a \
             certificate; or choose an address of this machine; or, with 'naru control', say --insecure"
        );
    }
    let keys = tls.as_ref().map(|tls| -> anyhow::Result<Keys> {
        let terminator =
            Terminator::build(tls).map_err(|invalid| anyhow::anyhow!("TLS of xDS: {invalid}"))?;
        Ok(Keys { terminator, checks_nodes: args.check_nodes })
    });
    // Looked at before the files are used, so that no change is missed.
    let stamp = tls.as_ref().map(Terminator::stamp);
    let plane = ControlPlane::start(address, keys.transpose()?)
        .with_context(|| format!("the xDS server cannot listen on {address}"))?;
    let plane = Rc::new(plane);
    if let Some((tls, stamp)) = tls.zip(stamp) {
        tokio::task::spawn_local(follow(tls, stamp, Rc::downgrade(&plane)));
    }
    Ok(plane)
}

fn settings(args: &XdsTlsArgs) -> Option<DownstreamTls> {
    let file = |path: &Path| DataSource::File(path.display().to_string());
    let certificate =
        Certificate::new(file(args.tls_certificate.as_deref()?), file(args.tls_key.as_deref()?));
    Some(DownstreamTls {
        alpn: vec!["h2".to_owned()],
        trusted_ca: args.client_ca.as_deref().map(file),
        require_client_certificate: args.client_ca.is_some(),
        ..DownstreamTls::new(vec![certificate])
    })
}

/// Until the control plane is gone.
async fn follow(tls: DownstreamTls, mut stamp: u64, plane: Weak<ControlPlane>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(plane) = plane.upgrade() else { return };
        let now = Terminator::stamp(&tls);
        if now == stamp {
            continue;
        }
        stamp = now;
        match Terminator::build(&tls) {
            Ok(terminator) => {
                plane.renew(terminator);
                naru_say::say!(
                    "naru: the certificate of xDS was read again; who connects from now on is shown it"
                );
            }
            // A file that is half written is seen once more when it is whole.
            Err(invalid) => {
                naru_say::say!("error: TLS of xDS: {invalid}\n  what was there before goes on");
            }
        }
    }
}
