//! Whether a request that changes something comes of a page of our own: Envoy's `csrf`
//! (`extensions/filters/http/csrf/v3/csrf.proto`).

use naru_base::Fraction;

use crate::StringMatch;

#[derive(Clone, Debug, PartialEq)]
pub struct Csrf {
    /// Of the requests, those that are refused where they come from elsewhere.
    pub enabled: Fraction,
    /// Of the others, those that are only counted.
    pub shadow: Fraction,
    /// Hosts, with their ports, whose pages may ask as well as those of the host that is asked.
    pub origins: Vec<StringMatch>,
}
