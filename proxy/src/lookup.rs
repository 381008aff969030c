//! The addresses of names that clients say, and no configuration.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::TokioResolver;
use naru_spec::DnsFamily;

use crate::discover::{lookup, resolver};

/// So many answers are kept.
const ANSWERS_KEPT: u64 = 1_024;

/// A worker's own resolver, made when it is first needed.
#[derive(Debug, Default)]
pub struct Lookup(OnceCell<Option<TokioResolver>>);

impl Lookup {
    /// The preferred ones first; none where there is no answer.
    pub async fn find(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        // RFC 6761, section 6.3: it is nobody else, whatever DNS says.
        if host.eq_ignore_ascii_case("localhost") {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let resolver = self.0.get_or_init(|| resolver(DnsFamily::All, ANSWERS_KEPT));
        let mut found = match resolver {
            Some(resolver) => lookup(resolver, host).await.unwrap_or_default(),
            None => Vec::new(),
        };
        // RFC 6724, section 2.1: IPv6 is preferred. The order within a family is the answer's.
        found.sort_by_key(IpAddr::is_ipv4);
        found
    }
}
