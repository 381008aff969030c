//! Ring hash: points on a circle of 64-bit numbers; a request goes to the next point after its hash.
//!
//! Equal to Envoy's ring, which comes from ketama: the points of an endpoint are the xxHash64 of
//! `key_0`, `key_1` and so on. Source: `ring_hash_lb.cc`. How many points an endpoint has is computed
//! as there, in floating point (sums, products, quotients and `ceil` of doubles, which are the same on
//! every machine).
//!
//! One difference: Envoy makes another ring where an endpoint becomes unfit, in which the others have
//! more points, so that of ten endpoints one that is gone moves 16 in 100 requests. Here its points
//! are passed over, and only its own requests move. One that is removed from the configuration leaves
//! another ring behind, here as there: rings that are equal to Envoy's have as many points for nine
//! endpoints as for ten.

use std::fmt::Write;
use std::sync::Arc;

use naru_base::EndpointId;
use naru_spec::RingSize;

use crate::consistent::{LOOKS_MAX, Member};
use crate::xxhash::Xxh64;

/// Never changes, and so is shared by the copies of a balancer.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    /// In order; equal hashes by id.
    points: Arc<[Point]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    endpoint: EndpointId,
}

impl Ring {
    /// The shares of all members sum to one.
    pub(crate) fn new(members: &[Member<'_>], size: RingSize) -> Ring {
        let least = members.iter().map(|member| member.share).fold(1.0, f64::min);
        if members.is_empty() || least <= 0.0 {
            return Ring { points: Arc::default() };
        }
        // Whole points for the lightest, if that many are allowed.
        let scale = ((least * size.min() as f64).ceil() / least).min(size.max() as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        // Parts of points are carried over to the next endpoint.
        let (mut there_are, mut there_should_be) = (0.0, 0.0);
        for member in members {
            there_should_be += scale * member.share;
            let mut prefix = Xxh64::new(0);
            prefix.update(member.key.as_bytes());
            prefix.update(b"_");
            let mut number = 0_u64;
            while there_are < there_should_be {
                let mut hash = prefix.clone();
                // It takes all that is written to it.
                let _ = write!(hash, "{number}");
                points.push(Point { hash: hash.finish(), endpoint: member.endpoint });
                number += 1;
                there_are += 1.0;
            }
        }
        points.sort_unstable();
        Ring { points: points.into() }
    }

    /// O(log n), and the points that are passed over. A further attempt goes so many points on: perhaps to the same
    /// endpoint again. `None` where none of those that are looked at belongs to one that `takes` requests.
    pub(crate) fn pick(
        &self,
        hash: u64,
        attempt: u32,
        takes: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        // Beyond the last point comes the first: the length is a whole turn.
        let next = self.points.partition_point(|point| point.hash < hash);
        let (before, after) = self.points.split_at_checked(next)?;
        let turn = after.iter().chain(before).cycle().take((LOOKS_MAX + attempt) as usize);
        let taking = turn.filter(|point| takes(point.endpoint));
        taking.map(|point| point.endpoint).nth(attempt as usize)
    }

    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        if self.points.is_sorted() { Ok(()) } else { Err("the points of a ring are in disorder") }
    }
}

#[cfg(test)]
impl Ring {
    /// The slow way: without the points of those who take no requests.
    pub(crate) fn reference(
        &self,
        hash: u64,
        attempt: u32,
        takes: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let left: Vec<&Point> = self.points.iter().filter(|point| takes(point.endpoint)).collect();
        let next = left.iter().position(|point| point.hash >= hash).unwrap_or(0);
        left.get((next + attempt as usize) % left.len().max(1)).map(|point| point.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consistent::tests::{locals, shared_by};

    fn size(min: u64, max: u64) -> RingSize {
        RingSize::new(min, max).unwrap()
    }

    fn ring(ports: &[u16], weights: &[u32], size: RingSize) -> Ring {
        let keys = locals(ports);
        Ring::new(&shared_by(&keys, weights), size)
    }

    fn points(ring: &Ring) -> Vec<(u32, u64)> {
        ring.points.iter().map(|point| (point.endpoint.0, point.hash)).collect()
    }

    /// `RingHashLoadBalancerTest.Basic` in Envoy's `ring_hash_lb_test.cc`.
    const BASIC: [(u32, u64); 12] = [
        (4, 833_437_586_790_550_860),
        (2, 928_266_305_478_181_108),
        (0, 1_033_482_794_131_418_490),
        (5, 3_551_244_743_356_806_947),
        (3, 3_851_675_632_748_031_481),
        (1, 5_583_722_120_771_150_861),
        (1, 6_311_230_543_546_372_928),
        (3, 7_700_377_290_971_790_572),
        (5, 13_144_177_310_400_110_813),
        (2, 13_444_792_449_719_432_967),
        (4, 15_516_499_411_664_133_160),
        (0, 16_117_243_373_044_804_889),
    ];

    #[test]
    fn a_ring_is_envoys_ring() {
        let basic = ring(&[90, 91, 92, 93, 94, 95], &[1; 6], size(12, 8 << 20));
        assert_eq!(points(&basic), BASIC);
        // `UnevenHosts`: two endpoints do not share three points evenly, so there are four.
        let uneven = ring(&[80, 81], &[1, 1], size(3, 8 << 20));
        assert_eq!(
            points(&uneven),
            [
                (0, 5_454_692_015_285_649_509),
                (1, 7_859_399_908_942_313_493),
                (0, 13_838_424_394_637_650_569),
                (1, 16_064_866_803_292_627_174),
            ]
        );
        // `HostWeightedTinyRing`.
        let tiny = ring(&[90, 91, 92], &[1, 2, 3], size(6, 6));
        assert_eq!(
            points(&tiny),
            [
                (2, 928_266_305_478_181_108),
                (2, 4_443_673_547_860_492_590),
                (1, 5_583_722_120_771_150_861),
                (1, 6_311_230_543_546_372_928),
                (2, 13_444_792_449_719_432_967),
                (0, 16_117_243_373_044_804_889),
            ]
        );
        // `HostWeightedLargeRing`.
        let large = ring(&[90, 91, 92], &[1, 2, 3], size(6_144, 8 << 20));
        assert_eq!(large.points.len(), 6_144);
        let mut counts = [0; 3];
        for at in 0..6_000 {
            counts[large.pick(at * (u64::MAX / 6_000), 0, |_| true).unwrap().index()] += 1;
        }
        assert_eq!(counts, [987, 1_932, 3_081]);
    }

    #[test]
    fn a_hash_goes_to_the_next_point_and_around() {
        let ring = ring(&[90, 91, 92, 93, 94, 95], &[1; 6], size(12, 8 << 20));
        let picked = |hash, attempt| ring.pick(hash, attempt, |_| true).unwrap().0;
        assert_eq!(picked(0, 0), 4);
        assert_eq!(picked(u64::MAX, 0), 4);
        assert_eq!(picked(3_551_244_743_356_806_947, 0), 5);
        assert_eq!(picked(3_551_244_743_356_806_948, 0), 3);
        // `BasicWithRetryHostPredicate`.
        assert_eq!((picked(0, 1), picked(0, 2), picked(0, 13)), (2, 0, 2));
        assert_eq!(picked(u64::MAX, 1), 2);
        for (at, &(endpoint, hash)) in BASIC.iter().enumerate() {
            assert_eq!(picked(hash, 0), endpoint);
            assert_eq!(picked(hash + 1, 0), BASIC[(at + 1) % 12].0);
        }
    }

    #[test]
    fn a_ring_keeps_to_its_size_whatever_the_weights() {
        for weights in [&[1, u32::MAX][..], &[u32::MAX, 1, 7], &[1; 50], &[3, 1, 1]] {
            let ports: Vec<u16> = (1..=weights.len() as u16).collect();
            for (min, max) in [(1, 1), (1, 7), (1_024, 2_048), (1, 100_000)] {
                let ring = ring(&ports, weights, size(min, max));
                assert!((1..=max as usize + 1).contains(&ring.points.len()), "{}", ring.points.len());
                ring.check_invariants().unwrap();
            }
        }
        assert_eq!(Ring::new(&[], RingSize::default()).pick(1, 1, |_| true), None);
    }
}
