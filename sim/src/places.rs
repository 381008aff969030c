//! Where are addresses? As a scenario says it, in the place of databases, which nobody reads here.

use std::net::IpAddr;

use ipnet::IpNet;
use naru_journey::door::GeoPlace;

/// What is said of networks: the smallest ones first.
#[derive(Clone, Debug, Default)]
pub struct AllPlaces(Vec<(IpNet, GeoPlace)>);

impl AllPlaces {
    pub fn new(mut all: Vec<(IpNet, GeoPlace)>) -> AllPlaces {
        // Among equal ones the order does not matter: no network stands here twice.
        all.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        AllPlaces(all)
    }

    /// An address of IPv4 that is written as one of IPv6 is that of IPv4, as in a database.
    pub fn find(&self, address: IpAddr) -> GeoPlace {
        let address = address.to_canonical();
        let found = self.0.iter().find(|(network, _)| network.contains(&address));
        found.map_or_else(GeoPlace::default, |(_, place)| place.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_networks_the_smallest_says_where_an_address_is() {
        let place = |country: &str| GeoPlace { country: Some(country.to_owned()), ..GeoPlace::default() };
        let said = [
            ("192.0.0.0/8", "US"),
            ("192.0.2.0/24", "CH"),
            ("192.0.2.7/32", "KR"),
            ("2001:db8::/32", "FR"),
            ("::/0", "XX"),
        ];
        let places =
            AllPlaces::new(said.iter().map(|(network, of)| (network.parse().unwrap(), place(of))).collect());
        #[track_caller]
        fn check(places: &AllPlaces, address: &str, expected: Option<&str>) {
            let found = places.find(address.parse().unwrap()).country;
            assert_eq!(found.as_deref(), expected, "{address}");
        }
        check(&places, "192.1.0.1", Some("US"));
        check(&places, "192.0.2.1", Some("CH"));
        check(&places, "192.0.2.7", Some("KR"));
        check(&places, "::ffff:192.0.2.7", Some("KR"));
        check(&places, "2001:db8::1", Some("FR"));
        check(&places, "2001:db9::1", Some("XX"));
        check(&places, "10.0.0.1", None);
    }
}
