//! The examples that are whole products: each is started as a newcomer starts it, and asked for what it promises.

use std::net::SocketAddr;
use std::path::PathBuf;

use naru_tests::files::Directory;
use naru_tests::up::free_address;
use naru_tests::wire::Message;
use naru_tests::{Up, Wire, until};
use serde_json::Value;

struct Product {
    up: Up,
    gate: SocketAddr,
    /// What it keeps, apart from what other runs of the example keep.
    _state: Directory,
}

impl Product {
    /// The documents as they are, but for where they listen and where they keep sessions.
    async fn start(name: &str) -> Product {
        let (gate, state) = (free_address(), Directory::new());
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).join(name);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.replace("number: 8080, name", &format!("number: {}, name", gate.port()));
            let kept = state.path("sessions").display().to_string();
            files.push((name, text.replace("/tmp/naru-dailyfeed-sessions", &kept)));
        }
        let files: Vec<(&str, String)> =
            files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        let up = Up::start(&files, &["--gateway-address", "127.0.0.1"]).await;
        let product = Product { up, gate, _state: state };
        // Nobody but the test says what is given up.
        assert_eq!(product.admin("POST", "/surge/hold?level=0").await.status(), 200);
        product
    }

    async fn request(to: SocketAddr, method: &str, path: &str, headers: &str) -> Message {
        let mut wire = Wire::connect(to).await;
        let length = if method == "GET" { "" } else { "content-length: 0\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}{length}connection: close\r\n\r\n"
        );
        wire.send(head).await;
        wire.response().await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Message {
        Product::request(self.gate, method, path, headers).await
    }

    async fn get(&self, path: &str) -> Message {
        self.ask("GET", path, "").await
    }

    async fn admin(&self, method: &str, path: &str) -> Message {
        Product::request(self.up.admin, method, path, "").await
    }

    async fn hold(&self, level: u32) {
        let path = format!("/surge/hold?level={level}");
        assert_eq!(self.admin("POST", &path).await.status(), 200);
    }

    /// How many processes of a service, or of a subset of it, may be called.
    async fn ready(&self, service: &str, subset: &str) -> usize {
        let clusters = self.up.page("/clusters").await;
        let is_one = |line: &&str| {
            line.starts_with(&format!("outbound|8080|{subset}|{service}."))
                && line.ends_with("::health_flags::healthy")
        };
        clusters.lines().filter(is_one).count()
    }

    async fn until_ready(&self, service: &str, subset: &str, count: usize) {
        until("processes to come or go", async || (self.ready(service, subset).await == count).then_some(()))
            .await;
    }
}

fn by(response: &Message) -> &str {
    response.head.get("x-workload").unwrap_or("nobody")
}

/// How much longer an answer from memory is fresh, in seconds.
fn lifetime(response: &Message) -> i64 {
    let said = response.head.get("cache-status").unwrap();
    let left = said.strip_prefix("naru; hit; ttl=").unwrap_or_else(|| panic!("{said}"));
    left.parse().unwrap()
}

#[tokio::test]
async fn dailyfeed_is_what_its_readme_says() {
    let feed = Product::start("dailyfeed").await;
    for (service, subset) in [
        ("member", ""),
        ("timeline", ""),
        ("activity", ""),
        ("image", ""),
        ("content", "read"),
        ("content", "write"),
    ] {
        feed.until_ready(service, subset, 1).await;
    }
    // Without a login there is what is public.
    assert_eq!(feed.get("/api/timeline").await.status(), 401);
    let (first, second) = (feed.get("/api/images/1.png").await, feed.get("/api/images/1.png").await);
    assert_eq!((first.status(), by(&first)), (200, "image"));
    assert!(second.head.get("cache-status").unwrap().contains("hit"), "{second:?}");
    // Who logs in is given a token.
    let login = feed.ask("POST", "/api/authentication/login", "").await;
    assert_eq!(login.status(), 200, "{login:?}");
    let token = format!("authorization: {}\r\n", login.head.get("authorization").unwrap());
    assert!(login.head.get("set-cookie").unwrap().contains("HttpOnly"));
    // A timeline is made of what others say.
    let timeline = feed.ask("GET", "/api/timeline", &token).await;
    let body: Value = serde_json::from_str(&timeline.text()).unwrap();
    let calls = body["calls"].as_array().unwrap();
    assert_eq!((&calls[0]["status"], &calls[1]["status"]), (&200.into(), &200.into()), "{body:#}");
    assert_eq!(calls[0]["body"]["version"], "read");
    assert_eq!(timeline.head.all("ratelimit-policy").len(), 3, "{timeline:?}");
    // What is read and what is written goes to processes of its own, and who has written reads there.
    assert_eq!(by(&feed.ask("GET", "/api/posts/1", &token).await), "content/read");
    let written = feed.ask("POST", "/api/posts", &token).await;
    assert_eq!(by(&written), "content/write");
    let cookie = format!("{token}cookie: wrote=1\r\n");
    assert_eq!(by(&feed.ask("GET", "/api/posts/1", &cookie).await), "content/write");
    // A spike.
    feed.hold(2).await;
    feed.until_ready("activity", "", 0).await;
    feed.until_ready("content", "read", 2).await;
    let shed = feed.ask("GET", "/api/images/1.png", "x-priority: low\r\n").await;
    assert_eq!((shed.status(), shed.head.get("retry-after")), (503, Some("30")));
    feed.hold(0).await;
    feed.until_ready("activity", "", 1).await;
    feed.until_ready("content", "read", 1).await;
    // A logout holds.
    assert_eq!(feed.ask("POST", "/api/auth/logout", &token).await.status(), 204);
    let after = feed.ask("GET", "/api/timeline", &token).await;
    assert_eq!((after.status(), after.head.get("x-relogin-required")), (401, Some("true")));
}

#[tokio::test]
async fn maltan_is_what_its_readme_says() {
    let guide = Product::start("maltan").await;
    for (service, count) in [("user", 2), ("place", 2), ("recommendation", 1), ("community", 1)] {
        guide.until_ready(service, "", count).await;
    }
    for (path, service) in [
        ("/api/users/1", "user"),
        ("/api/places", "place"),
        ("/api/recommendations/1", "recommendation"),
        ("/api/community", "community"),
    ] {
        let response = guide.get(path).await;
        assert_eq!((response.status(), by(&response)), (200, service), "{path}");
    }
    let again = guide.get("/api/places").await;
    assert!((1..=300).contains(&lifetime(&again)), "five minutes: {again:?}");
    let limits = guide.up.page("/stats?filter=load").await;
    assert!(limits.contains("bulkhead"), "{limits}");
    // The playbook: what can be done without is paused, and a page is whole without it.
    guide.hold(1).await;
    guide.until_ready("recommendation", "", 0).await;
    // Workers take what the pages already show a moment later.
    until("a page without recommendations", async || {
        let without = guide.get("/api/recommendations/1").await;
        (without.status() == 200 && without.text() == "[]").then_some(())
    })
    .await;
    let policy = guide.ask("GET", "/api/users/1", "x-user-id: ann\r\n").await;
    let told = policy.head.all("ratelimit-policy").join(", ");
    assert!(told.contains("\"global\";q=500;w=1") && told.contains("\"user\";q=50;w=60"), "{told}");
    let kept = guide.get("/api/places").await;
    assert!((301..=900).contains(&lifetime(&kept)), "fifteen minutes: {kept:?}");
    guide.hold(2).await;
    guide.until_ready("user", "", 4).await;
    guide.until_ready("place", "", 4).await;
    guide.hold(0).await;
    guide.until_ready("recommendation", "", 1).await;
    guide.until_ready("user", "", 2).await;
    // A user may ask a hundred times in a minute.
    let mut refused = None;
    for _ in 0..190 {
        let response = guide.ask("GET", "/api/users/1", "x-user-id: bob\r\n").await;
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
    }
    assert!(refused.unwrap().head.get("retry-after").is_some());
}
