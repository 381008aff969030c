//! Which pages of other origins may read answers (CORS): Istio's `corsPolicy`, Envoy's `CorsPolicy`
//! (`extensions/filters/http/cors/v3/cors.proto`), Fetch, section "CORS protocol".

use naru_base::Fraction;

use crate::StringMatch;

#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// An origin that one of these takes is told that it may; `*` takes every one.
    pub origins: Vec<StringMatch>,
    /// What stands in `Access-Control-Allow-Methods`; `*` is what was asked for. Empty: nothing is said.
    pub methods: String,
    /// The same of `Access-Control-Allow-Headers`.
    pub headers: String,
    /// What stands in `Access-Control-Expose-Headers`.
    pub exposed: String,
    /// What stands in `Access-Control-Max-Age`: seconds.
    pub max_age: String,
    pub credentials: bool,
    /// A preflight that asks for a private network is told that it may.
    pub private_network: bool,
    /// A preflight of an origin that none takes goes on to whoever answers the path; else it is answered without saying
    /// that it may.
    pub forwards_unmatched: bool,
    /// Of the requests, those that this acts on.
    pub enabled: Fraction,
    /// Of the others, those whose origin is only counted.
    pub shadow: Fraction,
}

impl Cors {
    /// Envoy's defaults, for no origin.
    pub fn new(origins: Vec<StringMatch>) -> Cors {
        Cors {
            origins,
            methods: String::new(),
            headers: String::new(),
            exposed: String::new(),
            max_age: String::new(),
            credentials: false,
            private_network: false,
            forwards_unmatched: true,
            enabled: Fraction::ALL,
            shadow: Fraction::NONE,
        }
    }

    /// Envoy's filter where no route says anything: it does nothing.
    pub fn none() -> Cors {
        Cors { enabled: Fraction::NONE, ..Cors::new(Vec::new()) }
    }
}
