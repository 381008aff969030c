//! The proxy that the environment names, as other programs understand it.

use std::env;

use anyhow::{Context as _, ensure};
use http::uri::Authority;

use crate::settings::is_place;

/// `http_proxy`, `grpc_proxy` and `no_proxy`; addresses as `host:port`.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<String>,
    grpc: Option<String>,
    exempt: Vec<Exempt>,
}

impl Proxies {
    /// # Errors
    /// A proxy is named that cannot be used.
    pub fn of_environment() -> anyhow::Result<Proxies> {
        Proxies::of(|name| env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Proxies> {
        let first = |names: &[&str]| {
            let named = names.iter().filter_map(|name| Some((name.to_string(), variable(name)?)));
            named.into_iter().find(|(_, value)| !value.is_empty())
        };
        let proxy = |names: &[&str]| {
            first(names)
                .map(|(name, url)| address(&url).with_context(|| format!("{name}='{url}'")))
                .transpose()
        };
        let http = proxy(&["http_proxy", "HTTP_PROXY"])?;
        let grpc = proxy(&["grpc_proxy", "GRPC_PROXY"])?.or_else(|| http.clone());
        let (_, exempt) = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let entries = exempt.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Proxies { http, grpc, exempt: entries.map(Exempt::of).collect() })
    }

    /// Where a plain request for this host is sent, unless it is sent there directly.
    pub fn for_http(&self, host: &str, port: u16) -> Option<&str> {
        self.http.as_deref().filter(|_| !self.is_exempt(host, port))
    }

    /// Who is asked for a tunnel to this host.
    pub fn for_grpc(&self, host: &str, port: u16) -> Option<&str> {
        self.grpc.as_deref().filter(|_| !self.is_exempt(host, port))
    }

    fn is_exempt(&self, host: &str, port: u16) -> bool {
        let host = without_brackets(host).to_ascii_lowercase();
        self.exempt.iter().any(|exempt| exempt.covers(&host, port))
    }
}

/// An entry of `no_proxy`.
#[derive(Clone, Debug)]
enum Exempt {
    All,
    /// A host and the names below it; or only these, where it began with a dot.
    Host {
        name: String,
        has_itself: bool,
        port: Option<u16>,
    },
}

impl Exempt {
    fn of(entry: &str) -> Exempt {
        if entry == "*" {
            return Exempt::All;
        }
        let parsed = entry.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        // An IPv6 address without brackets is all host.
        let (host, port) = match parsed {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (entry, None),
        };
        let host = without_brackets(host).to_ascii_lowercase();
        let below = host.strip_prefix('*').unwrap_or(&host);
        let (name, has_itself) = match below.strip_prefix('.') {
            Some(name) => (name, false),
            None => (below, true),
        };
        Exempt::Host { name: name.to_owned(), has_itself, port }
    }

    fn covers(&self, host: &str, asked: u16) -> bool {
        match self {
            Exempt::All => true,
            Exempt::Host { port: Some(port), .. } if *port != asked => false,
            Exempt::Host { name, has_itself, .. } => match host.strip_suffix(name.as_str()) {
                Some("") => *has_itself,
                Some(before) => before.ends_with('.'),
                None => false,
            },
        }
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `http://127.0.0.1:15001/` becomes `127.0.0.1:15001`.
fn address(url: &str) -> anyhow::Result<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    ensure!(scheme == "http", "only a proxy with a plain http:// URL can be used");
    let authority: Authority = rest.split('/').next().unwrap_or(rest).parse()?;
    ensure!(is_place(&authority), "a host and a port are expected, and no user");
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> anyhow::Result<Proxies> {
        Proxies::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn some_hosts_are_called_without_a_proxy() {
        let check = |no_proxy: &str, host: &str, port: u16, expected: bool| {
            let proxies = proxies(&[("http_proxy", "p:1"), ("no_proxy", no_proxy)]).unwrap();
            assert_eq!(proxies.for_http(host, port).is_none(), expected, "'{no_proxy}' {host}:{port}");
        };
        check("localhost,127.0.0.1", "127.0.0.1", 80, true);
        check("localhost, 127.0.0.1", "127.0.0.1", 80, true);
        check("localhost,127.0.0.1", "reviews", 9080, false);
        check("example.com", "example.com", 80, true);
        check("example.com", "a.Example.com", 80, true);
        check("Example.com", "a.example.com", 80, true);
        check("example.com", "badexample.com", 80, false);
        check(".example.com", "a.example.com", 80, true);
        check(".example.com", "example.com", 80, false);
        check("*.example.com", "a.b.example.com", 80, true);
        check("*.example.com", "example.com", 80, false);
        check("reviews:9080", "reviews", 9080, true);
        check("reviews:9080", "reviews", 80, false);
        check(".example.com:80", "a.example.com", 80, true);
        check(".example.com:80", "a.example.com", 81, false);
        check("::1", "[::1]", 80, true);
        check("[::1]:80", "[::1]", 80, true);
        check("[::1]:80", "[::1]", 81, false);
        check("*", "anything", 1, true);
        check("", "anything", 1, false);
        check(",", "anything", 1, false);
    }

    #[test]
    fn the_lower_case_name_is_asked_first_and_grpc_has_its_own() {
        let check = |variables: &[(&str, &str)], http: Option<&str>, grpc: Option<&str>| {
            let proxies = proxies(variables).unwrap();
            assert_eq!(proxies.for_http("a", 1), http, "{variables:?}");
            assert_eq!(proxies.for_grpc("a", 1), grpc, "{variables:?}");
        };
        check(&[], None, None);
        check(&[("http_proxy", "")], None, None);
        check(&[("http_proxy", ""), ("HTTP_PROXY", "http://b:2/")], Some("b:2"), Some("b:2"));
        check(&[("http_proxy", "c"), ("HTTP_PROXY", "b:2")], Some("c:80"), Some("c:80"));
        check(&[("http_proxy", "c:1"), ("grpc_proxy", "http://[::1]:3")], Some("c:1"), Some("[::1]:3"));
        check(&[("GRPC_PROXY", "http://d:4")], None, Some("d:4"));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused() {
        for url in
            ["https://a:1", "socks5://a:1", "http://", "http://a b", "http://a:99999", "http://u:p@a:1"]
        {
            let error = proxies(&[("HTTP_PROXY", url)]).map(|_| ()).unwrap_err();
            assert!(format!("{error:#}").contains(&format!("HTTP_PROXY='{url}'")), "{error:#}");
        }
    }
}
