//! What comes back from a login provider: by a browser, and by the provider itself.

use std::time::Duration;

use naru_base::WallTime;
use naru_session::Id;
use naru_session::login::{Attempt, Callback, IdToken, Metadata, identity, wanted_back, way_back};
use naru_spec::{OidcLogin, OidcSite};

/// A text as a query, as what a provider says of itself and as the claims of its token; bytes as an attempt.
pub fn login(bytes: &[u8]) {
    if let Ok(attempt) = Attempt::read(bytes) {
        assert_eq!(attempt.write(), bytes, "there is one text for it");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(callback) = Callback::read(text) {
        assert!(callback.code.is_some() != callback.error.is_some());
        assert!(!callback.state.is_empty());
    }
    for back in [wanted_back(text), way_back(text)] {
        assert!(back.starts_with('/') && !back.starts_with("//") && !back.starts_with("/\\"), "{back:?}");
        assert!(back.bytes().all(|byte| byte.is_ascii_graphic()), "{back:?}");
        assert_eq!(way_back(&back), back);
    }
    let Some(said) = naru_jose::object(bytes) else { return };
    let mut settings = OidcLogin::new("https://id.example", "shop");
    let cluster = "there".to_owned();
    settings.sites = vec![OidcSite { is_tls: true, host: "id.example".to_owned(), port: 443, cluster }];
    if let Ok(metadata) = Metadata::read(&settings, &said) {
        let endpoints = &metadata.endpoints;
        assert!([&endpoints.token, &endpoints.jwks].into_iter().all(|at| settings.cluster_for(at).is_some()));
        let attempt = Attempt {
            state: Id(1),
            nonce: Id(2),
            verifier: [0; 32],
            began: WallTime(0),
            origin: "https://shop.example".to_owned(),
            back: "/".to_owned(),
        };
        let address = attempt.address(&settings, &metadata, "x");
        assert!(address.starts_with("https://") || address.starts_with("http://"), "{address}");
    }
    let token = IdToken { typ: None, claims: &said, at_hash: None };
    let now = WallTime(1_000_000_000_000_000_000);
    let same = |one: &[u8], other: &[u8]| one == other;
    if let Ok((subject, _)) = identity(&settings, &token, Id(2), now, Duration::from_secs(60), same) {
        assert!(!subject.is_empty());
        assert_eq!(said.get("iss").and_then(naru_base::Json::as_text), Some("https://id.example"));
    }
}
