//! Counts and answers in a Redis that speaks TLS and asks who one is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cached::{ALL, config_of};
use naru_proxy::Options;
use naru_spec::{
    CachePolicy, CacheRedis, CacheStore, CacheWrite, Check, CheckKind, CountPlace, DataSource, Lacking,
    Quota, QuotaAlgorithm, Quotas, Redis, RedisTls, Store, StoreUse, WithoutStore,
};
use naru_tests::certificates::Authority;
use naru_tests::files::Directory;
use naru_tests::naru::config;
use naru_tests::up::free_address;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};

struct Secured {
    child: Child,
    address: SocketAddr,
    ca: PathBuf,
}

impl Secured {
    /// With one user that may do all, and whose password is `hush-hush`.
    async fn start(files: &Directory) -> Secured {
        let authority = Authority::new();
        let issued = authority.issue_for("127.0.0.1");
        let ca = files.write("ca.pem", &authority.pem());
        let (chain, key) = (files.write("chain.pem", &issued.chain), files.write("key.pem", &issued.key));
        let users = files.write("users.acl", "user default off\nuser naru on >hush-hush ~* &* +@all\n");
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
        let secured = Secured { child, address, ca };
        until("Redis to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
        secured
    }

    /// How somebody speaks to it.
    fn spoken(&self, files: &Directory, ca: Option<PathBuf>, user: &str, password: &str) -> Redis {
        let tls = ca.map(|ca| RedisTls { authority: DataSource::File(ca.display().to_string()) });
        let file = files.write(&format!("password-{user}"), password).display().to_string();
        let nodes = vec![self.address.to_string()];
        let (user, password) = (Some(user.to_owned()), Some(DataSource::File(file)));
        Redis { nodes, is_cluster: false, tls, user, password }
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_redis_is_asked_over_tls_by_its_user_and_nobody_else_is_believed() {
    let (files, up) = (Directory::new(), Upstream::plain(Speaks::Http1).await);
    let secured = Secured::start(&files).await;
    let ca = secured.ca.clone();
    let start = |ca: Option<PathBuf>, user: &str, password: &str| {
        let redis = secured.spoken(&files, ca, user, password);
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

#[tokio::test]
async fn answers_are_kept_in_a_redis_with_tls_and_a_user_and_nowhere_without() {
    let (files, up) = (Directory::new(), Upstream::plain(Speaks::Http1).await);
    let secured = Secured::start(&files).await;
    let start = |ca: Option<PathBuf>, password: &str| {
        let redis = CacheRedis {
            redis: secured.spoken(&files, ca, "naru", password),
            prefix: "test".to_owned(),
            timeout: Duration::from_secs(10),
            write: CacheWrite::Behind,
            queue_max: 10,
            poll: Duration::from_millis(20),
        };
        let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
        let mut config = config_of(&bootstrap, &CachePolicy::default());
        config.cache = Some(CacheStore { redis: Some(redis), ..CacheStore::default() });
        assert!(!format!("{config:?}").contains("hush"), "a password is not printed");
        Naru::start_on(config, &Options { workers: 1, seed: Some(1) })
    };
    let tier = |naru: &Naru| naru.cache().expect("answers are kept").tiers[0].clone();
    let get = async |naru: &Naru| {
        let mut wire = Wire::connect(naru.address).await;
        let keep = "x-reply: cache-control: max-age=600";
        wire.send(&format!("GET /describe/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{keep}\r\n\r\n"))
            .await;
        wire.response().await
    };
    let (one, other) =
        (start(Some(secured.ca.clone()), "hush-hush"), start(Some(secured.ca.clone()), "hush-hush"));
    for naru in [&one, &other] {
        until("the tier to be up", async || tier(naru).is_up.then_some(())).await;
    }
    assert_eq!(get(&one).await.status(), 200);
    until("the answer to be written", async || {
        let stored = tier(&one).writes.iter().find(|(name, _)| *name == "stored").map(|(_, count)| *count);
        (stored == Some(1)).then_some(())
    })
    .await;
    assert_eq!(get(&other).await.status(), 200);
    assert_eq!(up.requests(), 1, "the second gateway has it of the Redis");
    // Who is not who he says he is has nothing of it, and his requests go on.
    let stranger = files.write("stranger.pem", &Authority::new().pem());
    for (ca, password) in
        [(Some(stranger), "hush-hush"), (Some(secured.ca.clone()), "guessed"), (None, "hush-hush")]
    {
        let naru = start(ca, password);
        let before = up.requests();
        assert_eq!(get(&naru).await.status(), 200);
        assert_eq!(up.requests(), before + 1);
        assert!(!tier(&naru).is_up);
        naru.settles().await;
    }
}
