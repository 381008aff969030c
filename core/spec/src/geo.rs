//! Where clients are, by a database of addresses.

use http::HeaderName;

/// Headers that a request is given before any rule sees it. What a client says in them is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geo {
    /// A file in the format of MaxMind.
    pub database: String,
    pub headers: Vec<(GeoFact, HeaderName)>,
}

/// What a database may know of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GeoFact {
    /// ISO 3166-1, two letters.
    Country,
    /// Two letters.
    Continent,
    /// ISO 3166-2, without the country.
    Region,
    /// In English.
    City,
    /// The number of the autonomous system.
    Asn,
}

impl GeoFact {
    pub const ALL: [GeoFact; 5] =
        [GeoFact::Country, GeoFact::Continent, GeoFact::Region, GeoFact::City, GeoFact::Asn];
}
