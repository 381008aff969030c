//! A provider that says what a test wants it to say, be it what no real one would.

use std::sync::{Arc, Mutex};

use naru_jose::{Algorithm, Jwks, SigningKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What it says, and what it was asked.
#[derive(Clone)]
pub struct Pretender {
    pub issuer: String,
    pub said: Arc<Mutex<Said>>,
}

pub struct Said {
    /// Of itself.
    pub metadata: Value,
    pub keys: String,
    /// For a code: status and body.
    pub token: (u16, String),
    /// It answers nothing at all.
    pub is_silent: bool,
    /// Method and path, and the body, of what it was asked.
    pub asked: Vec<(String, String)>,
    pub heads: Vec<String>,
}

impl Pretender {
    pub async fn start() -> Pretender {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let said = Said {
            metadata: json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
                "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
            }),
            keys: "{}".to_owned(),
            token: (500, String::new()),
            is_silent: false,
            asked: Vec::new(),
            heads: Vec::new(),
        };
        let pretender = Pretender { issuer, said: Arc::new(Mutex::new(said)) };
        let of_task = pretender.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(of_task.clone().answer(stream));
            }
        });
        pretender
    }

    pub fn set(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap());
    }

    /// How often it was asked for what begins so.
    pub fn count(&self, beginning: &str) -> usize {
        self.said.lock().unwrap().asked.iter().filter(|(asked, _)| asked.starts_with(beginning)).count()
    }

    async fn answer(self, mut stream: TcpStream) -> Option<()> {
        let mut text = Vec::new();
        let (head, body) = loop {
            let mut buffer = [0; 4_096];
            let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
            text.extend_from_slice(&buffer[..count]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length =
                length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        };
        let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
        let (status, body) = {
            let mut said = self.said.lock().unwrap();
            said.asked.push((line.clone(), body));
            said.heads.push(head);
            match line.as_str() {
                _ if said.is_silent => (0, String::new()),
                "GET /.well-known/openid-configuration" => (200, said.metadata.to_string()),
                "GET /keys" => (200, said.keys.clone()),
                "POST /token" => said.token.clone(),
                _ => (404, String::new()),
            }
        };
        if status == 0 {
            tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
        }
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.ok()
    }

    /// Has it answer the next code with a token of these claims, signed by this key.
    pub fn gives(&self, key: &SigningKey, claims: &Value) {
        let token = key.sign(&naru_jose::parse_json(claims.to_string().as_bytes()).unwrap());
        self.gives_token(&token);
    }

    pub fn gives_token(&self, token: &str) {
        let body = json!({ "access_token": "opaque", "token_type": "Bearer", "id_token": token });
        self.set(|said| said.token = (200, body.to_string()));
    }

    pub fn publishes(&self, keys: &[&SigningKey]) {
        let keys = Jwks::of(keys.iter().map(|key| key.public().clone()).collect()).public();
        self.set(|said| said.keys = keys);
    }

    /// What an honest one says of somebody who was led there with this address.
    pub fn honest(&self, led: &str) -> Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "han", "iat": now, "exp": now + 300,
            "nonce": query(led, "nonce"),
        })
    }
}

pub fn key(name: &str) -> SigningKey {
    SigningKey::generate(Algorithm::Es256, name).unwrap()
}
