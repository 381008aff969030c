//! Random: any endpoint, as likely as its weight says. (Envoy's takes no notice of weights; with
//! equal weights both are the same.)
//!
//! Unequal weights are laid out by the alias method (Walker 1977; Vose 1991), here in whole numbers
//! and so exact: n columns of equal height, each shared by at most two endpoints.

use naru_base::{Chance, EndpointId};

use crate::endpoint::{Taker, ids, is_even};

/// A pick is O(1) either way.
#[derive(Clone, Debug)]
pub(crate) enum Random {
    Even { ids: Vec<EndpointId> },
    Weighted { columns: Vec<Column>, height: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// How much of the height is the owner's; the rest is the other's.
    owned: u64,
    owner: EndpointId,
    other: EndpointId,
}

impl Random {
    pub(crate) fn new(takers: &[Taker]) -> Random {
        if is_even(takers) { Random::Even { ids: ids(takers) } } else { weighted(takers) }
    }

    #[inline]
    pub(crate) fn pick(&self, chance: &mut Chance) -> Option<EndpointId> {
        match self {
            Random::Even { ids } => ids.get(chance.below(ids.len() as u64) as usize).copied(),
            Random::Weighted { columns, height } => {
                let column = columns.get(chance.below(columns.len() as u64) as usize)?;
                let is_owners = chance.below(*height) < column.owned;
                Some(if is_owners { column.owner } else { column.other })
            }
        }
    }
}

/// The height is the sum of all weights, and an endpoint has `n * weight` to lay out. Both are below
/// 2^64, as weights and counts of endpoints are below 2^32.
fn weighted(takers: &[Taker]) -> Random {
    let height: u64 = takers.iter().map(|taker| u64::from(taker.weight)).sum();
    let count = takers.len() as u64;
    let mut columns: Vec<Column> = takers
        .iter()
        .map(|taker| Column { owned: u64::from(taker.weight) * count, owner: taker.id, other: taker.id })
        .collect();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) =
        (0..columns.len()).partition(|&at| columns[at].owned < height);
    // A column that is too low is filled up by one that is too high. They end together: what is
    // laid out fills the columns exactly.
    while let (Some(&to), Some(&from)) = (low.last(), high.last()) {
        low.pop();
        columns[to].other = columns[from].owner;
        columns[from].owned -= height - columns[to].owned;
        if columns[from].owned < height {
            high.pop();
            low.push(from);
        }
    }
    Random::Weighted { columns, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_hold_exactly_the_weights() {
        let mut chance = Chance::new(4);
        for round in 0..500 {
            let bound = [3, 1_000, u64::from(u32::MAX)][round % 3];
            let weights: Vec<u32> =
                (0..2 + chance.below(40)).map(|_| 1 + chance.below(bound) as u32).collect();
            let takers: Vec<Taker> =
                (0..).zip(&weights).map(|(id, &weight)| Taker { id: EndpointId(id), weight }).collect();
            let Random::Weighted { columns, height } = weighted(&takers) else { unreachable!() };
            let mut laid_out = vec![0_u128; weights.len()];
            for column in &columns {
                assert!(column.owned <= height);
                laid_out[column.owner.index()] += u128::from(column.owned);
                laid_out[column.other.index()] += u128::from(height - column.owned);
            }
            let expected: Vec<u128> =
                weights.iter().map(|weight| u128::from(*weight) * columns.len() as u128).collect();
            assert_eq!(laid_out, expected, "{weights:?}");
        }
    }
}
