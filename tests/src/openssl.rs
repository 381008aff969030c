//! OpenSSL's program: another opinion on certificates and handshakes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// What it says, on both outputs, to these words and this input; and whether it was content.
pub async fn openssl(words: &[&str], input: &str) -> (bool, String) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let input = input.to_owned();
    let run = move || {
        let mut child = Command::new("openssl")
            .args(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended before it has read anything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    crate::within("openssl", tokio::task::spawn_blocking(run)).await.unwrap()
}

/// What it must be content with.
pub async fn openssl_says(words: &[&str], input: &str) -> String {
    let (is_content, said) = openssl(words, input).await;
    assert!(is_content, "openssl {words:?}: {said}");
    said
}

/// A handshake with these words; what was agreed on, or why nothing was.
pub async fn handshake(address: SocketAddr, words: &[&str]) -> (bool, String) {
    let address = address.to_string();
    let all = [&["s_client", "-connect", &address, "-brief"], words].concat();
    openssl(&all, "").await
}
