//! Documents that mean no good: half of a file, a hundred megabytes, a bomb. Each is told, and nothing changes by it.

use std::io::Write as _;

use naru_tests::control::bootstrap;
use naru_tests::{Client, Control, Envoy, Speaks, Upstream, until};

use super::{free_port, written};

/// What a process has in memory, in bytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
}

#[tokio::test]
async fn documents_that_mean_no_good_change_nothing() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let shop = |says: &str| written(port, upstream.address, says);
    let control = Control::start(&[("shop.yaml", shop("1"))]).await;
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    let mut says = async || {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200);
        answer.header("x-says").unwrap().to_owned()
    };
    assert_eq!(says().await, "1");

    // Somebody who writes slowly: a file that stops in the middle of a mapping.
    let whole = shop("2");
    let (half, rest) = whole.split_at(whole.find("ports: [{").unwrap() + 8);
    let mut file = std::fs::File::create(control.directory.path("shop.yaml")).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    control.says("has changed and cannot be; what was there before goes on").await;
    assert_eq!(says().await, "1");
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    until("the whole of it", async || (says().await == "2").then_some(())).await;

    // A bomb: a few hundred bytes that stand for 10^12.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    control.save("bomb.yaml", &bomb);
    control.says("bomb.yaml:").await;
    assert_eq!(says().await, "2");
    std::fs::remove_file(control.directory.path("bomb.yaml")).unwrap();

    // A hundred megabytes.
    let line = b"# a line of a hundred bytes, again and again, so that all of it is a comment and would be fine to read\n";
    let large = control.directory.path(".large.new");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&large).unwrap());
    (0..(100 << 20) / line.len()).for_each(|_| file.write_all(line).unwrap());
    file.flush().unwrap();
    drop(file);
    std::fs::rename(large, control.directory.path("large.yaml")).unwrap();
    control.says("large.yaml' cannot be read: it has more than 67108864 bytes").await;
    assert_eq!(says().await, "2");
    std::fs::remove_file(control.directory.path("large.yaml")).unwrap();

    control.save("shop.yaml", &shop("3"));
    until("a change after all of that", async || (says().await == "3").then_some(())).await;
    let had = memory(control.child.id());
    assert!(had < 400 << 20, "it had {had} bytes in memory");
}

/// It is killed, and the directory has been spoiled meanwhile: what was in force goes on.
#[tokio::test]
async fn what_was_in_force_outlives_the_process() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let port = free_port();
    let control = Control::start(&[("shop.yaml", written(port, upstream.address, "1"))]).await;
    let before = control.status().await;
    assert_eq!(before["source"]["is_from_disk"], false);
    control.save("shop.yaml", "apiVersion: v1\nkind: Service\nmetadata: { nam: x }\n");
    control.says("cannot be; what was there before goes on").await;
    let is_told =
        |source: &serde_json::Value| source["error"].as_str().is_some_and(|why| why.contains("shop.yaml:"));
    assert!(is_told(&control.status().await["source"]));
    let directory = control.directory.path("").display().to_string();
    let control = control.again(&["--config", &directory]).await;
    let source = control.status().await["source"].clone();
    assert!(source["is_from_disk"] == true && is_told(&source), "{source}");
    let envoy = Envoy::start(&bootstrap(control.xds, &["--envoy", "--admin", "127.0.0.1:0"])).await;
    let mut client = Client::plain(envoy.address, Speaks::Http1).await;
    assert_eq!(client.get("/").await.header("x-says"), Some("1"));
    control.save("shop.yaml", &written(port, upstream.address, "2"));
    until("a change", async || (client.get("/").await.header("x-says") == Some("2")).then_some(())).await;
    assert_eq!(control.status().await["source"]["is_from_disk"], false);
}
