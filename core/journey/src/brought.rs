//! Which address does a request bring with it?
//!
//! Where endpoints come with requests ([`OnDemand`]), a header says the address, or the host that the request is for
//! stands for it: an address as it is, a name as the client's own resolver would have found it. Source: Envoy's
//! `OriginalDstCluster::LoadBalancer::chooseHost`. What Envoy knows by the connection itself, before it was led away, is
//! not known here: nobody's connections are led away.

use std::net::{IpAddr, SocketAddr};

use naru_route::Subject;
use naru_spec::{Listener, OnDemand};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brought {
    Address(SocketAddr),
    /// It is to be looked up.
    Name {
        host: Box<str>,
        port: u16,
    },
    /// It says none, or nothing that is one.
    Nothing,
}

impl Brought {
    pub fn of(settings: &OnDemand, subject: &Subject<'_>) -> Brought {
        let said = settings.header.as_ref().and_then(|name| subject.headers.get(name));
        let brought = match (said, settings.authority_port) {
            // One that is no address does not make way for the host.
            (Some(value), _) => {
                let address = value.to_str().ok().and_then(|text| text.parse().ok());
                address.map_or(Brought::Nothing, Brought::Address)
            }
            (None, Some(port)) => of_authority(subject.authority, port),
            (None, None) => Brought::Nothing,
        };
        brought.at(settings.port_override)
    }

    fn at(self, port: Option<u16>) -> Brought {
        let brought = match (self, port) {
            (Brought::Address(address), Some(port)) => Brought::Address(SocketAddr::new(address.ip(), port)),
            (Brought::Name { host, .. }, Some(port)) => Brought::Name { host, port },
            (brought, None) => brought,
            (Brought::Nothing, Some(_)) => Brought::Nothing,
        };
        match brought {
            Brought::Address(address) if address.port() == 0 => Brought::Nothing,
            Brought::Name { port: 0, .. } => Brought::Nothing,
            brought => brought,
        }
    }
}

fn of_authority(authority: &str, default_port: u16) -> Brought {
    if let Ok(address) = authority.parse() {
        return Brought::Address(address);
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an address of IPv6 stand in brackets.
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, port),
            Err(_) => return Brought::Nothing,
        },
        _ => (authority, default_port),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => Brought::Address(SocketAddr::new(address, port)),
        Err(_) if host.is_empty() || bare.is_some() => Brought::Nothing,
        Err(_) => Brought::Name { host: host.into(), port },
    }
}

/// Whether it is one of naru's own listeners: a request that is sent there comes back, again and again.
pub fn is_own(address: SocketAddr, listeners: &[Listener]) -> bool {
    let ip = address.ip().to_canonical();
    let is_near = |own: IpAddr| own == ip || own.is_unspecified() || own.is_loopback();
    let is_here = ip.is_loopback() || ip.is_unspecified();
    listeners.iter().any(|listener| {
        let own = listener.address.ip().to_canonical();
        listener.address.port() == address.port()
            && (own == ip || own.is_unspecified() || is_here && is_near(own))
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderMap, HeaderName, Method};
    use naru_spec::{RouteTable, Scheme};

    use super::*;

    fn of(settings: &OnDemand, authority: &str, header: Option<&str>) -> Brought {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("x-to", value.parse().unwrap());
        }
        let subject = Subject {
            method: &Method::GET,
            authority,
            path: "/",
            query: None,
            scheme: Scheme::Http,
            headers: &headers,
            source: Ipv4Addr::LOCALHOST.into(),
            is_internal: false,
            draw: 0,
            claims: None,
        };
        Brought::of(settings, &subject)
    }

    fn address(text: &str) -> Brought {
        Brought::Address(text.parse().unwrap())
    }

    fn name(host: &str, port: u16) -> Brought {
        Brought::Name { host: host.into(), port }
    }

    #[test]
    fn a_host_is_an_address_or_a_name_with_its_port_or_the_usual_one() {
        let settings = OnDemand { authority_port: Some(8080), ..OnDemand::default() };
        let check = |authority: &str, expected: Brought| {
            assert_eq!(of(&settings, authority, Some("1.2.3.4:5")), expected, "{authority}");
        };
        check("10.0.0.5", address("10.0.0.5:8080"));
        check("10.0.0.5:81", address("10.0.0.5:81"));
        check("[::1]", address("[::1]:8080"));
        check("[::1]:81", address("[::1]:81"));
        check("a.example", name("a.example", 8080));
        check("a.example:81", name("a.example", 81));
        for nothing in
            ["", ":81", "a.example:", "a.example:x", "a.example:70000", "a:0", "10.0.0.5:0", "[a]:80", "[]"]
        {
            check(nothing, Brought::Nothing);
        }
        let nobody = OnDemand::default();
        assert_eq!(of(&nobody, "10.0.0.5:81", Some("1.2.3.4:5")), Brought::Nothing);
    }

    #[test]
    fn a_header_says_an_address_and_a_port_and_a_bad_one_says_nothing() {
        let header = Some(HeaderName::from_static("x-to"));
        let alone = OnDemand { header: header.clone(), ..OnDemand::default() };
        let check = |said: Option<&str>, expected: Brought| {
            assert_eq!(of(&alone, "10.9.9.9:9", said), expected, "{said:?}");
        };
        check(Some("10.0.0.5:81"), address("10.0.0.5:81"));
        check(Some("[::1]:81"), address("[::1]:81"));
        for nothing in ["10.0.0.5", "a.example:80", "10.0.0.5:0", "10.0.0.5:81, 10.0.0.6:81", ""] {
            check(Some(nothing), Brought::Nothing);
        }
        check(None, Brought::Nothing);
        let both = OnDemand { header, authority_port: Some(80), ..OnDemand::default() };
        assert_eq!(of(&both, "10.9.9.9:9", None), address("10.9.9.9:9"));
        assert_eq!(of(&both, "10.9.9.9:9", Some("nonsense")), Brought::Nothing);
        let moved = OnDemand { port_override: Some(7), ..both };
        assert_eq!(of(&moved, "10.9.9.9:9", None), address("10.9.9.9:7"));
        assert_eq!(of(&moved, "a.example", None), name("a.example", 7));
        assert_eq!(of(&moved, "a.example", Some("10.0.0.5:81")), address("10.0.0.5:7"));
    }

    #[test]
    fn what_leads_back_to_naru_is_known() {
        let listener = |address: &str| {
            let chain = naru_spec::FilterChain::of(naru_spec::Http::new("x", RouteTable::default()));
            Listener::new("", address.parse().unwrap(), vec![chain])
        };
        let own = |address: &str, listeners: &[&str]| {
            let listeners: Vec<_> = listeners.iter().map(|address| listener(address)).collect();
            is_own(address.parse().unwrap(), &listeners)
        };
        assert!(own("127.0.0.1:80", &["127.0.0.1:80"]));
        assert!(own("127.0.0.2:80", &["127.0.0.1:80"]), "all of loopback is this machine");
        assert!(own("[::ffff:127.0.0.1]:80", &["127.0.0.1:80"]));
        assert!(own("0.0.0.0:80", &["127.0.0.1:80"]) && own("10.0.0.5:80", &["0.0.0.0:80"]));
        assert!(own("[::1]:80", &["[::]:80"]));
        assert!(!own("10.0.0.5:80", &["127.0.0.1:80"]) && !own("127.0.0.1:81", &["127.0.0.1:80"]));
        assert!(!own("10.0.0.5:80", &["10.0.0.6:80"]));
    }
}
