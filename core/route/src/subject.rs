//! The question and its answer.

use std::fmt::Debug;
use std::net::IpAddr;

use http::{HeaderMap, Method};
use naru_base::Json;
use naru_base::chance::mix;
use naru_spec::Scheme;

/// What of a request decides its rule.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub method: &'a Method,
    /// The Host as sent, with its port if it has one.
    pub authority: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// What follows the first `?`, as sent.
    pub query: Option<&'a str>,
    pub scheme: Scheme,
    pub headers: &'a HeaderMap,
    /// The trusted client address.
    pub source: IpAddr,
    /// Whether the client is one of our own; see [`naru_spec::Http::internal_networks`].
    pub is_internal: bool,
    /// One uniform number per request. Every chance that routing takes is derived from it, so that
    /// equal draws decide equally.
    pub draw: u64,
    /// What tokens claim; nothing before they are verified.
    pub claims: Option<&'a dyn Claims>,
}

/// What is known of who asks, once tokens are verified.
pub trait Claims: Debug {
    /// A claim of the token that is called so, by names within each other.
    fn claim(&self, of: &str, path: &[String]) -> Option<&Json>;
}

impl Subject<'_> {
    /// The draw for fractions: one for all rules of a request, as in Envoy.
    #[inline]
    pub(crate) fn fraction_draw(&self) -> u64 {
        mix(self.draw ^ 0x6672_6163_7469_6f6e)
    }
}

/// The draw for the choice among weighted clusters.
#[inline]
pub(crate) fn choice_draw(draw: u64) -> u64 {
    mix(draw ^ 0x0063_686f_6963_6521)
}

/// A rule of a table: an index into it, meaningless in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl RuleId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a request goes. Virtual hosts are indices into the table, in the order of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Rule {
        rule: RuleId,
        /// How many bytes of the path the rule's path matched: those of the prefix or the exact
        /// path, all of them for a regular expression. A rewrite of the prefix replaces these.
        matched: u32,
    },
    NoVirtualHost,
    NoRule {
        virtual_host: u32,
    },
    /// No rule takes a request for the options of the server as a whole, `OPTIONS *` (RFC 9110, section 9.3.7): it is
    /// the server's to answer, whatever its paths lead to.
    ServerOptions {
        virtual_host: u32,
    },
    /// The virtual host redirects to [`https_location`](crate::https_location).
    RequiresTls {
        virtual_host: u32,
    },
}

impl Verdict {
    /// Where no rule takes the request.
    #[cold]
    pub(crate) fn of_nobody(virtual_host: u32, subject: &Subject<'_>) -> Verdict {
        if subject.path == "*" && *subject.method == Method::OPTIONS {
            Verdict::ServerOptions { virtual_host }
        } else {
            Verdict::NoRule { virtual_host }
        }
    }
}
