//! The proxy that the environment names, as other programs understand it.

use std::env;

/// `http_proxy`, `grpc_proxy` and `no_proxy`.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub grpc: Option<String>,
    no_proxy: Vec<String>,
}

impl Proxies {
    pub fn of_environment() -> Proxies {
        let first =
            |names: &[&str]| names.iter().find_map(|name| env::var(name).ok()).filter(|v| !v.is_empty());
        let http = first(&["http_proxy", "HTTP_PROXY"]).map(|url| authority(&url));
        let grpc = first(&["grpc_proxy"]).map(|url| authority(&url)).or_else(|| http.clone());
        let no_proxy = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Proxies::new(http, grpc, &no_proxy)
    }

    pub fn new(http: Option<String>, grpc: Option<String>, no_proxy: &str) -> Proxies {
        let no_proxy = no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase());
        Proxies { http, grpc, no_proxy: no_proxy.filter(|entry| !entry.is_empty()).collect() }
    }

    /// Whether an authority is called without a proxy.
    pub fn is_exempt(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        self.no_proxy.iter().any(|entry| {
            let suffix = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*"
                || *entry == authority
                || *entry == host
                || (!suffix.is_empty()
                    && host.strip_suffix(suffix).is_some_and(|before| before.ends_with('.')))
        })
    }
}

/// `http://127.0.0.1:15001/` becomes `127.0.0.1:15001`.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_are_called_without_a_proxy() {
        let check = |no_proxy: &str, authority: &str, expected: bool| {
            let proxies = Proxies::new(None, None, no_proxy);
            assert_eq!(proxies.is_exempt(authority), expected, "{no_proxy} {authority}");
        };
        check("localhost,127.0.0.1", "127.0.0.1:80", true);
        check("localhost,127.0.0.1", "reviews:9080", false);
        check(".example.com", "a.example.com:80", true);
        check("example.com", "a.example.com:80", true);
        check("*.example.com", "a.example.com", true);
        check("example.com", "badexample.com", false);
        check("reviews:9080", "reviews:9080", true);
        check("reviews:9080", "reviews:80", false);
        check("*", "anything:1", true);
        check("", "anything:1", false);
    }

    #[test]
    fn a_proxy_is_named_by_a_url() {
        assert_eq!(authority("http://127.0.0.1:15001/"), "127.0.0.1:15001");
        assert_eq!(authority("proxy"), "proxy:80");
    }
}
