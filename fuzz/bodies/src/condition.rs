//! A condition in CEL.
//!
//! The first line is what the header `x-a` of a request says, what follows is the condition:
//!
//! ```text
//! one
//! request.headers['x-a'] in ['one', 'two']
//! ```

use http::{HeaderMap, HeaderValue};
use naru_base::Json;
use naru_condition::{Condition, Facts, check, parse};

/// Whatever is written is refused in words, or comes to something, and to the same each time.
pub fn condition(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (said, text) = text.split_once('\n').unwrap_or(("", text));
    let tree = match parse(text) {
        Ok(tree) => tree,
        Err(wrong) => {
            let lines = text.split('\n').count();
            assert!(wrong.line >= 1 && wrong.line <= lines && wrong.column >= 1, "{wrong:?}");
            assert!(!wrong.message.is_empty());
            return;
        }
    };
    let told = check(&tree);
    assert!(told.iter().all(|problem| !problem.message.is_empty()));
    let Ok(condition) = Condition::compile(&tree) else { return };
    let mut headers = HeaderMap::new();
    headers
        .extend(HeaderValue::from_str(said).ok().map(|value| (http::HeaderName::from_static("x-a"), value)));
    let groups = Json::List(vec!["staff".into(), Json::Whole(7), Json::Null]);
    let claims = Json::Map(vec![("sub".to_owned(), said.into()), ("groups".to_owned(), groups)]);
    let tokens = [("payload", &claims)];
    let facts = Facts {
        method: "GET",
        authority: "a.test",
        path: "/a/b",
        query: Some("c=d"),
        scheme: "http",
        protocol: "HTTP/1.1",
        headers: &headers,
        time: naru_base::WallTime(1_795_307_400_250_000_000),
        source: ([192, 0, 2, 1], 1).into(),
        destination: ([192, 0, 2, 2], 80).into(),
        is_tls: false,
        is_certified: false,
        subject: None,
        uri: None,
        dns: None,
        server_name: None,
        tokens: &tokens,
        session: Some(&claims),
    };
    assert_eq!(condition.holds(&facts), condition.holds(&facts));
}
