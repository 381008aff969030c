//! From which addresses may requests come?
//!
//! Networks as ranges that do not overlap, in order: an address is found by halving, whether ten are listed or a hundred
//! thousand.

use std::net::IpAddr;

use ipnet::IpNet;
use naru_spec::Addresses;

/// The addresses of an allow list and a deny list.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    allow: Option<Ranges>,
    deny: Ranges,
}

/// First and last address of each, in order. IPv4 stands among IPv6 as RFC 4291 maps it.
#[derive(Clone, Debug, Default)]
struct Ranges(Box<[(u128, u128)]>);

impl Networks {
    pub fn compile(said: &Addresses) -> Networks {
        let allow = (!said.allow.is_empty()).then(|| Ranges::of(&said.allow));
        Networks { allow, deny: Ranges::of(&said.deny) }
    }

    /// Who is denied is not admitted, allowed or not; where anybody is allowed, nobody else is.
    pub fn admit(&self, address: IpAddr) -> bool {
        let address = mapped(address);
        !self.deny.has(address) && self.allow.as_ref().is_none_or(|allow| allow.has(address))
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Ranges {
    fn of(networks: &[IpNet]) -> Ranges {
        let mut ranges: Vec<(u128, u128)> =
            networks.iter().map(|network| (mapped(network.network()), mapped(network.broadcast()))).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, before)) if first <= before.saturating_add(1) => *before = last.max(*before),
                _ => joined.push((first, last)),
            }
        }
        Ranges(joined.into_boxed_slice())
    }

    fn has(&self, address: u128) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        let range = behind.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    fn networks(allow: &[&str], deny: &[&str]) -> Addresses {
        let read = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
        Addresses { allow: read(allow), deny: read(deny) }
    }

    #[track_caller]
    fn check(said: &Addresses, address: &str, expected: bool) {
        assert_eq!(Networks::compile(said).admit(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn who_is_denied_is_denied_though_he_is_allowed() {
        let said = networks(&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16", "2001:db8:1::/48"]);
        check(&said, "10.0.0.1", true);
        check(&said, "10.1.2.3", false);
        check(&said, "10.2.0.0", true);
        check(&said, "11.0.0.0", false);
        check(&said, "2001:db8::1", true);
        check(&said, "2001:db8:1::1", false);
        check(&said, "::1", false);
    }

    #[test]
    fn where_nobody_is_named_everybody_may() {
        check(&networks(&[], &[]), "192.0.2.1", true);
        check(&networks(&[], &["192.0.2.1/32"]), "192.0.2.1", false);
        check(&networks(&[], &["192.0.2.1/32"]), "192.0.2.2", true);
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_written_as_one_of_ipv6() {
        check(&networks(&["10.0.0.0/8"], &[]), "::ffff:10.0.0.1", true);
        check(&networks(&[], &["10.0.0.0/8"]), "::ffff:10.0.0.1", false);
    }

    #[test]
    fn the_ends_of_everything_are_in_it() {
        let said = networks(&["::/0"], &[]);
        check(&said, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true);
        check(&said, "0.0.0.0", true);
    }

    #[test]
    fn halving_finds_what_looking_at_each_finds() {
        let mut chance = Chance::new(11);
        for _ in 0..200 {
            let mut any = |wide: bool| -> IpAddr {
                // Few different ones, so that networks overlap and touch.
                let low = chance.draw() % 64;
                if wide {
                    IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(low) << 58).to_be_bytes())
                } else {
                    IpAddr::from((0x0a00_0000_u32 | (low as u32) << 18).to_be_bytes())
                }
            };
            let mut list = |count: u64| -> Vec<IpNet> {
                (0..count)
                    .map(|nth| {
                        let address = any(nth % 3 == 0);
                        let bits = if address.is_ipv4() { 8 + nth as u8 % 8 * 3 } else { 60 + nth as u8 % 9 };
                        IpNet::new(address, bits).unwrap()
                    })
                    .collect()
            };
            let said = Addresses { allow: list(6), deny: list(4) };
            let compiled = Networks::compile(&said);
            for nth in 0..60 {
                let address = any(nth % 2 == 0);
                let is_in = |all: &[IpNet]| all.iter().any(|network| network.contains(&address));
                let expected = !is_in(&said.deny) && is_in(&said.allow);
                assert_eq!(compiled.admit(address), expected, "{address} in {said:?}");
            }
        }
    }
}
