//! Counts in a Redis that speaks TLS and asks who one is.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use naru_proxy::Options;
use naru_spec::{
    Check, CheckKind, CountPlace, DataSource, Lacking, Quota, QuotaAlgorithm, Quotas, Redis, RedisTls, Store,
    StoreUse, WithoutStore,
};
use naru_tests::certificates::Authority;
use naru_tests::files::Directory;
use naru_tests::naru::config;
use naru_tests::up::free_address;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};

struct Secured(Child);

impl Drop for Secured {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_redis_is_asked_over_tls_by_its_user_and_nobody_else_is_believed() {
    let (files, authority, up) = (Directory::new(), Authority::new(), Upstream::plain(Speaks::Http1).await);
    let issued = authority.issue_for("127.0.0.1");
    let ca = files.write("ca.pem", &authority.pem());
    let (chain, key) = (files.write("chain.pem", &issued.chain), files.write("key.pem", &issued.key));
    let users = "user default off\nuser naru on >hush-hush ~naru:* +evalsha +eval +@read +@write +@connection +time\n";
    let users = files.write("users.acl", users);
    let address = free_address();
    let port = address.port().to_string();
    let child = Command::new("redis-server")
        .args(["--port", "0", "--tls-port", &port, "--bind", "127.0.0.1", "--save", ""])
        .args(["--tls-auth-clients", "no", "--aclfile"])
        .arg(users)
        .arg("--tls-cert-file")
        .arg(chain)
        .arg("--tls-key-file")
        .arg(key)
        .arg("--tls-ca-cert-file")
        .arg(&ca)
        .current_dir(files.path(""))
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed: cargo xtask setup");
    let _secured = Secured(child);
    until("Redis to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    let start = |ca: Option<std::path::PathBuf>, user: &str, password: &str| {
        let tls = ca.map(|ca| RedisTls { authority: DataSource::File(ca.display().to_string()) });
        let password =
            DataSource::File(files.write(&format!("password-{user}"), password).display().to_string());
        let nodes = vec![address.to_string()];
        let redis =
            Redis { nodes, is_cluster: false, tls, user: Some(user.into()), password: Some(password) };
        let quota = Quota {
            name: "doc/all".into(),
            algorithm: QuotaAlgorithm::FixedWindow { requests: 3, window: Duration::from_secs(36_000) },
            key: Vec::new(),
            lacking: Lacking::Uncounted,
            cost: 1,
            is_shadow: false,
            keys_max: 1,
        };
        let store = Some(StoreUse {
            name: "counts".into(),
            timeout: Duration::from_secs(20),
            otherwise: WithoutStore::Refuse,
            proxies: 1,
        });
        let kind = CheckKind::Quotas(Box::new(Quotas { limits: vec![quota], store }));
        let mut config = config(&Bootstrap::to(up.address));
        config.listeners[0].chains[0].http.gate.insert(Check { name: "doc".into(), kind });
        config.stores.push(Store { name: "counts".into(), place: CountPlace::Redis(redis) });
        assert!(!format!("{config:?}").contains("hush"), "a password is not printed");
        Naru::start_on(config, &Options { workers: 1, seed: Some(1) })
    };
    let ask = async |naru: &Naru| {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let mut wire = Wire::connect(naru.address).await;
            wire.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            statuses.push(wire.response().await.status());
        }
        statuses
    };
    let stranger = files.write("stranger.pem", &Authority::new().pem());
    for (ca, user, password) in [
        (Some(stranger), "naru", "hush-hush"),
        (Some(ca.clone()), "naru", "guessed"),
        (Some(ca.clone()), "default", "hush-hush"),
        (None, "naru", "hush-hush"),
    ] {
        let naru = start(ca, user, password);
        assert_eq!(ask(&naru).await, [500; 4], "{user} {password}");
        naru.settles().await;
    }
    let naru = start(Some(ca), "naru", "hush-hush\n");
    assert_eq!(ask(&naru).await, [200, 200, 200, 429]);
    naru.settles().await;
}
