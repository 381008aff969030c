//! How the endpoints of a cluster share its requests.
//!
//! Settings only: who takes the next request is decided in `balance`. Words and meanings are Envoy's
//! (`cluster.proto`, `route_components.proto`), where it has them.

use std::fmt;
use std::time::Duration;

use http::HeaderName;

use crate::{Invalid, defaults};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancing {
    pub policy: BalancingPolicy,
    /// For round robin and least request only.
    pub warm_up: Option<WarmUp>,
    /// What of a request chooses its endpoint, where the policy is a consistent hash. Without any, what
    /// its rule says; without that, chance.
    pub hash: Vec<HashPolicy>,
    /// Sends a client to the endpoint that it was sent to first, before the policy is asked.
    pub sticky: Option<Sticky>,
    /// A priority takes all of its load while this many percent of its fit endpoints are as many as all
    /// of them. Above zero.
    pub overprovisioning_percent: u32,
    /// Requests are shared among localities by their weights first, then among the endpoints of one.
    pub weighs_localities: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalancingPolicy {
    /// In turn, by weight.
    RoundRobin,
    LeastRequest(LeastRequest),
    Random,
    /// The least of two drawn, by how long they took lately times how much they have in flight. Linkerd's.
    PeakEwma(PeakEwma),
    /// Equal hashes go to one endpoint, and few of them move when endpoints come and go.
    ConsistentHash(ConsistentHash),
    /// To the address that the client wanted to reach: no endpoint is picked.
    Passthrough,
}

/// The least loaded of `choices` endpoints drawn at random; with unequal weights, in turn by weight
/// over load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastRequest {
    /// Above zero.
    pub choices: u32,
    /// With unequal weights: a weight is divided by this power of the requests in flight plus one. At
    /// zero it is round robin.
    pub bias: Thousandths,
}

impl Default for LeastRequest {
    fn default() -> LeastRequest {
        LeastRequest { choices: defaults::LEAST_REQUEST_CHOICES, bias: Thousandths::ONE }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakEwma {
    /// What an endpoint is taken to need that has not answered yet.
    pub first: Duration,
    /// After this long without news about a third of what was known counts.
    pub decay: Duration,
}

impl Default for PeakEwma {
    fn default() -> PeakEwma {
        PeakEwma { first: defaults::PEAK_EWMA_FIRST, decay: defaults::PEAK_EWMA_DECAY }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    pub table: HashTable,
    /// An endpoint takes at most this many percent of the mean load, at least 100; what is above goes to
    /// others. Envoy's `hash_balance_factor`.
    pub load_max_percent: Option<u32>,
    /// Endpoints are told apart by the name that DNS was asked for, instead of their address.
    pub by_host_name: bool,
}

impl ConsistentHash {
    pub fn new(table: HashTable) -> ConsistentHash {
        ConsistentHash { table, load_max_percent: None, by_host_name: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    Ring(RingSize),
    Maglev(MaglevSize),
}

/// How many points a ring has: at least the minimum, and whole ones for the lightest endpoint; at most
/// the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    min: u64,
    max: u64,
}

impl RingSize {
    pub fn new(min: u64, max: u64) -> Result<RingSize, Invalid> {
        if min == 0 || max == 0 {
            return Err(Invalid::new("a ring of no points has no place for an endpoint")
                .hint(format!("the default is {}", defaults::RING_SIZE_MIN)));
        }
        if max > defaults::RING_SIZE_MAX || min > defaults::RING_SIZE_MAX {
            return Err(Invalid::new(format!("a ring has at most {} points", defaults::RING_SIZE_MAX)));
        }
        if min > max {
            return Err(Invalid::new(format!(
                "the minimum size of the ring, {min}, is above its maximum, {max}"
            )));
        }
        Ok(RingSize { min, max })
    }

    pub fn min(self) -> u64 {
        self.min
    }

    pub fn max(self) -> u64 {
        self.max
    }
}

impl Default for RingSize {
    fn default() -> RingSize {
        RingSize { min: defaults::RING_SIZE_MIN, max: defaults::RING_SIZE_MAX }
    }
}

/// How many places a Maglev table has: a prime, or some of them could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaglevSize(u64);

impl MaglevSize {
    pub fn new(size: u64) -> Result<MaglevSize, Invalid> {
        if size > defaults::MAGLEV_SIZE_MAX {
            return Err(Invalid::new(format!(
                "a Maglev table has at most {} places",
                defaults::MAGLEV_SIZE_MAX
            )));
        }
        if !is_prime(size) {
            return Err(Invalid::new(format!("the size of a Maglev table is a prime, and {size} is none"))
                .hint(format!("the default is {}", defaults::MAGLEV_SIZE)));
        }
        Ok(MaglevSize(size))
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl Default for MaglevSize {
    fn default() -> MaglevSize {
        MaglevSize(defaults::MAGLEV_SIZE)
    }
}

/// By trial: of the largest size allowed this takes two thousand divisions.
fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// A number with three digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thousandths(pub u32);

impl Thousandths {
    pub const ONE: Thousandths = Thousandths(1_000);
}

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// An endpoint that is new, or fit again, takes a growing part of its share: of its weight
/// `max(min_percent, (time / window) ^ (1 / aggression))`. Envoy's slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Counted in whole milliseconds.
    pub window: Duration,
    /// One grows evenly; above one it is fast at first, below one slow. Above zero.
    pub aggression: Thousandths,
    pub min_percent: u32,
}

impl WarmUp {
    pub fn over(window: Duration) -> WarmUp {
        WarmUp { window, aggression: Thousandths::ONE, min_percent: defaults::WARM_UP_MIN_PERCENT }
    }
}

/// A part of a request that its hash is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    pub source: HashSource,
    /// Where there is a hash by now, what follows is left out.
    pub is_terminal: bool,
}

impl HashPolicy {
    pub fn of(source: HashSource) -> HashPolicy {
        HashPolicy { source, is_terminal: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// All its values, in alphabetical order.
    Header(HeaderName),
    /// One that has a lifetime is given to a client that has none.
    Cookie(Cookie),
    /// The address of the client, without its port.
    SourceIp,
    /// The first of this name, as sent. Its case counts.
    Query(String),
}

/// A cookie of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: String,
    ttl: Option<Duration>,
    path: String,
    attributes: Vec<(String, String)>,
}

impl Cookie {
    /// Without a `ttl` it is only read; one of zero lasts as long as the client's session. Without a
    /// path the client applies its own rule.
    pub fn new(
        name: impl Into<String>,
        ttl: Option<Duration>,
        path: impl Into<String>,
        attributes: Vec<(String, String)>,
    ) -> Result<Cookie, Invalid> {
        let cookie = Cookie { name: name.into(), ttl, path: path.into(), attributes };
        if !is_token(&cookie.name) {
            return Err(Invalid::new(format!("'{}' cannot be the name of a cookie", cookie.name))
                .hint("letters, digits and any of !#$%&'*+-.^_`|~"));
        }
        if !is_attribute(&cookie.path) {
            return Err(Invalid::new("the path of a cookie has no ';' and no control characters"));
        }
        for (name, value) in &cookie.attributes {
            if !is_token(name) || !is_attribute(value) {
                return Err(Invalid::new(format!("'{name}={value}' cannot be an attribute of a cookie")));
            }
        }
        Ok(cookie)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// An empty value stands alone: `Secure`.
    pub fn attributes(&self) -> &[(String, String)] {
        &self.attributes
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 6265, section 4.1.1: `av-value`, in ASCII.
fn is_attribute(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b';')
}

/// Something that a request carries names its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    pub carrier: StickyCarrier,
    /// Where the endpoint that is named cannot take it, the request is refused instead of sent elsewhere.
    pub is_strict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyCarrier {
    /// Is given to the client, also where it has no lifetime.
    Cookie(Cookie),
    /// In the request and in the response.
    Header(HeaderName),
}

/// Where an endpoint stands. Two without a locality are in the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

impl Locality {
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

/// `region/zone/sub_zone`, as Istio writes it, as far as it is known.
impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() || !self.sub_zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.sub_zone.is_empty() {
            write!(f, "/{}", self.sub_zone)?;
        }
        Ok(())
    }
}

impl LoadBalancing {
    /// What of a request is hashed: what is said of the cluster, or else what is said of the route.
    #[inline]
    pub fn hash_policies<'a>(&'a self, of_route: &'a [HashPolicy]) -> &'a [HashPolicy] {
        if self.hash.is_empty() { of_route } else { &self.hash }
    }

    pub fn round_robin() -> LoadBalancing {
        BalancingPolicy::RoundRobin.into()
    }

    /// Of two drawn.
    pub fn least_request() -> LoadBalancing {
        BalancingPolicy::LeastRequest(LeastRequest::default()).into()
    }

    pub fn random() -> LoadBalancing {
        BalancingPolicy::Random.into()
    }

    /// Whether a policy does without what `warm_up` asks for.
    pub fn ignores_warm_up(&self) -> bool {
        match self.policy {
            BalancingPolicy::RoundRobin | BalancingPolicy::LeastRequest(_) => false,
            BalancingPolicy::Random
            | BalancingPolicy::PeakEwma(_)
            | BalancingPolicy::ConsistentHash(_)
            | BalancingPolicy::Passthrough => self.warm_up.is_some(),
        }
    }

    /// Values that cannot be, all of them.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut check = |is_fine: bool, message: &str| {
            if !is_fine {
                found.push(Invalid::new(message));
            }
        };
        match &self.policy {
            BalancingPolicy::LeastRequest(settings) => {
                check(settings.choices > 0, "of no choices there is no least");
            }
            BalancingPolicy::ConsistentHash(settings) => check(
                settings.load_max_percent.is_none_or(|percent| percent >= 100),
                "the most that an endpoint takes is at least 100 percent of the mean",
            ),
            BalancingPolicy::PeakEwma(settings) => {
                check(!settings.decay.is_zero(), "what is known of an endpoint lasts longer than no time");
            }
            BalancingPolicy::RoundRobin | BalancingPolicy::Random | BalancingPolicy::Passthrough => {}
        }
        if let Some(warm_up) = self.warm_up {
            check(warm_up.window.as_millis() > 0, "a warm-up takes at least a millisecond");
            check(warm_up.aggression.0 > 0, "the aggression of a warm-up is above zero");
            check(warm_up.min_percent <= 100, "the least weight of a warm-up is at most 100 percent");
        }
        check(self.overprovisioning_percent > 0, "the overprovisioning factor is above zero");
        check(
            self.hash.len() <= defaults::HASH_POLICIES_MAX,
            "a request is hashed by at most 64 of its parts",
        );
        found
    }
}

impl From<BalancingPolicy> for LoadBalancing {
    fn from(policy: BalancingPolicy) -> LoadBalancing {
        LoadBalancing {
            policy,
            warm_up: None,
            hash: Vec::new(),
            sticky: None,
            overprovisioning_percent: defaults::OVERPROVISIONING_PERCENT,
            weighs_localities: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_has_points_and_its_minimum_is_not_above_its_maximum() {
        assert!(RingSize::new(1, 1).is_ok());
        assert!(RingSize::new(1_024, 8 << 20).is_ok());
        for (min, max) in [(0, 0), (0, 5), (20, 10), (1, (8 << 20) + 1)] {
            assert!(RingSize::new(min, max).is_err(), "{min}..{max}");
        }
    }

    #[test]
    fn a_maglev_table_has_a_prime_of_places() {
        for size in [2, 3, 7, 17, 65_537, 5_000_011] {
            assert_eq!(MaglevSize::new(size).map(MaglevSize::get), Ok(size));
        }
        for size in [0, 1, 4, 8, 9, 65_536, 65_539 * 3, 5_000_012, 5_000_077, u64::MAX] {
            assert!(MaglevSize::new(size).is_err(), "{size}");
        }
        assert_eq!(MaglevSize::new(defaults::MAGLEV_SIZE), Ok(MaglevSize::default()));
    }

    #[test]
    fn what_a_cookie_says_cannot_end_its_line() {
        let cookie = |name: &str, path: &str, attribute: (&str, &str)| {
            let attributes = vec![(attribute.0.to_owned(), attribute.1.to_owned())];
            Cookie::new(name, None, path, attributes).is_ok()
        };
        assert!(cookie("route", "/", ("SameSite", "Lax")));
        assert!(cookie("__Host-a.b", "", ("Secure", "")));
        assert!(
            !cookie("", "/", ("a", "b"))
                && !cookie("a=b", "/", ("a", "b"))
                && !cookie("a b", "/", ("a", "b"))
        );
        assert!(!cookie("a", "/;x", ("a", "b")) && !cookie("a", "/\r\n", ("a", "b")));
        assert!(!cookie("a", "/", ("", "b")) && !cookie("a", "/", ("a", "b;c")));
    }

    #[test]
    fn every_value_that_cannot_be_is_told_at_once() {
        assert_eq!(LoadBalancing::round_robin().problems(), []);
        let hash = ConsistentHash {
            load_max_percent: Some(99),
            ..ConsistentHash::new(HashTable::Ring(RingSize::default()))
        };
        let mut wrong = LoadBalancing::from(BalancingPolicy::ConsistentHash(hash));
        wrong.warm_up =
            Some(WarmUp { window: Duration::from_micros(999), aggression: Thousandths(0), min_percent: 101 });
        wrong.overprovisioning_percent = 0;
        wrong.hash = vec![HashPolicy::of(HashSource::SourceIp); 65];
        assert_eq!(wrong.problems().len(), 6, "{:?}", wrong.problems());
        assert!(wrong.ignores_warm_up());
    }

    #[test]
    fn localities_are_written_as_istio_writes_them() {
        let locality = |region: &str, zone: &str, sub_zone: &str| {
            Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() }.to_string()
        };
        assert_eq!(locality("eu", "a", "1"), "eu/a/1");
        assert_eq!(locality("eu", "", ""), "eu");
        assert_eq!(locality("eu", "", "1"), "eu//1");
        assert_eq!(Thousandths(1_050).to_string(), "1.050");
    }
}
