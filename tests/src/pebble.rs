//! Pebble, a server of ACME that looks for itself whether a name leads where it should; and names that do.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::certificates::Authority;
use crate::files::Directory;
use crate::up::free_address;
use crate::{client, openssl, until};

/// Every name leads to 127.0.0.1.
#[derive(Debug)]
pub struct Pebble {
    children: Vec<Child>,
    /// Of its directory.
    pub url: String,
    files: Directory,
    roots: SocketAddr,
}

impl Pebble {
    /// It looks for HTTP-01 and TLS-ALPN-01 at these ports, and issues certificates that hold for so many seconds.
    pub async fn start(http: u16, tls: u16, seconds: u64) -> Pebble {
        let files = Directory::new();
        let authority = Authority::new();
        let own = authority.issue_for("localhost");
        let path = |name: &str, text: &str| files.write(name, text).display().to_string();
        path("ca.pem", &authority.pem());
        let (certificate, key) = (path("own.pem", &own.chain), path("own.key", &own.key));
        let [address, management, dns, names] = [(); 4].map(|()| free_address());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": address, "managementListenAddress": management, "certificate": certificate,
            "privateKey": key, "httpPort": http, "tlsPort": tls, "certificateValidityPeriod": seconds,
        }});
        let config = path("pebble.json", &config.to_string());
        let none = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""];
        let start = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                // It takes its time and refuses now and then, to see whether clients bear it.
                .envs([
                    ("PEBBLE_VA_NOSLEEP", "1"),
                    ("PEBBLE_WFE_NONCEREJECT", "5"),
                    ("PEBBLE_AUTHZREUSE", "0"),
                ])
                .stdin(Stdio::null())
                .stdout(std::fs::File::create(files.path(&format!("{program}.log"))).unwrap())
                .stderr(std::fs::File::create(files.path(&format!("{program}.errors"))).unwrap())
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}: run `cargo xtask setup` once"))
        };
        let (dns, names) = (dns.to_string(), names.to_string());
        let answering = [&none[..], &["-dns01", &dns, "-management", &names]].concat();
        let children = vec![
            start("pebble-challtestsrv", &answering),
            start("pebble", &["-config", &config, "-dnsserver", &dns, "-strict"]),
        ];
        let url = format!("https://localhost:{}/dir", address.port());
        let pebble = Pebble { children, url, files, roots: management };
        until("Pebble to answer", async || pebble.roots().await).await;
        until("names to be answered", async || tokio::net::TcpStream::connect(&names).await.ok()).await;
        pebble
    }

    /// The file of the authority that its own certificate is from.
    pub fn trusted_ca(&self) -> String {
        self.files.path("ca.pem").display().to_string()
    }

    /// The file of the authority that issues certificates.
    pub async fn issuing_ca(&self) -> String {
        let root = until("Pebble's root", async || self.roots().await).await;
        self.files.write("root.pem", &root).display().to_string()
    }

    /// How many orders it was given.
    pub fn orders(&self) -> usize {
        let said = std::fs::read_to_string(self.files.path("pebble.log")).unwrap();
        said.lines().filter(|line| line.contains("Added order")).count()
    }

    /// The management interface speaks TLS.
    async fn roots(&self) -> Option<String> {
        let connector = naru_tls::Connector::build(&naru_spec::UpstreamTls::default()).unwrap();
        tokio::net::TcpStream::connect(self.roots).await.ok()?;
        let secured = client::Client::secured(self.roots, crate::Speaks::Http1Tls, &connector).await;
        let (mut client, _) = secured.ok()?;
        let answer = client.get("/roots/0").await;
        (answer.status == 200).then(|| answer.text())
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The number of the certificate that is served for a name; `None` where nobody is, or none that this authority issued.
pub async fn served(address: SocketAddr, name: &str, issuing_ca: &str) -> Option<String> {
    let words = [
        "-servername",
        name,
        "-verify_hostname",
        name,
        "-verify_return_error",
        "-CAfile",
        issuing_ca,
        "-showcerts",
    ];
    let address = address.to_string();
    let all = [&["s_client", "-connect", &address], &words[..]].concat();
    let (is_believed, said) = openssl::openssl(&all, "").await;
    if !is_believed {
        return None;
    }
    let leaf = &said[said.find("-----BEGIN CERTIFICATE-----")?..];
    Some(openssl::openssl_says(&["x509", "-noout", "-serial"], leaf).await)
}
