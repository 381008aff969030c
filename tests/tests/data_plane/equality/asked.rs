//! Requests that are drawn, each in the form that a client sends and in the one that a codec reads.

use std::fmt;
use std::net::SocketAddr;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use naru_base::Chance;
use naru_journey::ChainId;
use naru_journey::edge::Peer;
use naru_sim::Body;
use naru_tests::{Outbound, Speaks};

const HOSTS: &[&str] = &[
    "shop.example",
    "www.shop.example",
    "SHOP.example",
    "shop.example:8080",
    "a.shop.example",
    "west-eu.example",
    "b.eu.shop.example",
    "api.internal",
    "secret.example",
    "other.example",
    "127.0.0.1",
];
const PATHS: &[&str] = &[
    "/cart",
    "/cart/",
    "/health",
    "/gone/by",
    "/old",
    "/moved",
    "/items/7",
    "/itemsx",
    "/v1/users/ann",
    "/v1/users/",
    "/v22/users/bob",
    "/search",
    "/search/deep",
    "/searching",
    "/split",
    "/split/x",
    "/refused",
    "/down",
    "/half",
    "/again/half",
    "/again/least",
    "/again",
    "/empty",
    "/status/",
    "/case",
    "/CASE",
    "/nowhere",
    "/",
];
const QUERIES: &[&str] = &["", "?version=2", "?version=3&version=2", "?a=b&version=2", "?"];
const STATUSES: &[&str] = &["200", "204", "304", "404", "418", "503"];
const HEADERS: &[(&str, &[&str])] = &[
    ("x-tier", &["gold", "silver"]),
    ("user-agent", &["a bot", "a browser"]),
    ("x-debug", &["1"]),
    ("x-age", &["9", "10", "19", "20", "old"]),
    ("cookie", &["session=m1", "a=b; session=s1", "session=\"m2\"", "other=1"]),
    ("x-forwarded-for", &["10.1.2.3", "127.0.0.1, 10.1.2.3"]),
    ("x-request-id", &["known"]),
];

/// A request, before anybody has made anything of it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub speaks: Speaks,
    /// It comes on a connection of its own, as do those after it.
    pub is_first: bool,
    method: Method,
    host: &'static str,
    target: String,
    headers: HeaderMap,
    body: usize,
}

impl Asked {
    /// So many requests, the same ones for the same seed.
    pub fn draw(seed: u64, count: usize) -> Vec<Asked> {
        let mut chance = Chance::split(seed, "asked");
        let mut speaks = Speaks::Http1;
        let mut all = Vec::new();
        while all.len() < count {
            let is_first = all.is_empty() || chance.below(60) == 0;
            if is_first {
                speaks = if chance.below(3) == 0 { Speaks::Http2 } else { Speaks::Http1 };
            }
            all.push(Asked::one(&mut chance, speaks, is_first));
        }
        all
    }

    fn one(chance: &mut Chance, speaks: Speaks, is_first: bool) -> Asked {
        let any = |chance: &mut Chance, all: &[&'static str]| all[chance.below(all.len() as u64) as usize];
        let method = match chance.below(10) {
            0 => Method::POST,
            1 => Method::PUT,
            2 => Method::HEAD,
            3 => Method::DELETE,
            _ => Method::GET,
        };
        let has_body = matches!(method, Method::POST | Method::PUT);
        // Most rules are those of the first host.
        let host = if chance.below(2) == 0 { HOSTS[0] } else { any(chance, HOSTS) };
        let mut target = any(chance, PATHS).to_owned();
        if target == "/status/" {
            target.push_str(any(chance, STATUSES));
        }
        target.push_str(any(chance, QUERIES));
        let mut headers = HeaderMap::new();
        for (name, values) in HEADERS {
            if chance.below(3) == 0 {
                headers.append(*name, HeaderValue::from_static(any(chance, values)));
            }
        }
        let body = if has_body { chance.below(2_000) as usize } else { 0 };
        Asked { speaks, is_first, method, host, target, headers, body }
    }

    /// As a client sends it.
    pub fn outbound(&self) -> Request<Outbound> {
        let body = match self.body {
            0 => Outbound::empty(),
            bytes => Outbound::sized(vec![b'x'; bytes]),
        };
        let mut request = naru_tests::client::request(self.method.clone(), &self.target, body);
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(self.host));
        request
    }

    /// As the codec of the proxy that listens on `local` hands it over.
    pub fn received(&self, local: SocketAddr) -> naru_sim::Request {
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method.clone();
        head.headers = self.headers.clone();
        let target: PathAndQuery = self.target.parse().unwrap();
        if self.speaks.is_http2() {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(Authority::from_static(self.host));
            parts.path_and_query = Some(target);
            head.uri = Uri::from_parts(parts).unwrap();
            head.version = Version::HTTP_2;
        } else {
            head.uri = target.into();
            head.headers.insert(header::HOST, HeaderValue::from_static(self.host));
        }
        let body = Body::new(self.body as u64, std::time::Duration::ZERO);
        let peer = Peer {
            remote: ([127, 0, 0, 1], 40_000).into(),
            local,
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        };
        naru_sim::Request { chain: ChainId(0), peer, head, body, asker: None }
    }

    /// What [`naru_tests::Upstream`] answers.
    pub fn upstream_status(&self) -> u16 {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix("/status/").map_or(200, |status| status.parse().unwrap())
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { speaks, method, host, target, headers, body, .. } = self;
        write!(f, "{speaks:?} {method} {host}{target} {headers:?}, {body} bytes")
    }
}
