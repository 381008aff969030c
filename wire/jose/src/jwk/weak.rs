//! Is a modulus of RSA one whose primes others can compute? ROCA (CVE-2017-15361).
//!
//! A library of smart cards made primes as `k * M + 65537^a mod M`, where `M` is the product of the first
//! primes. So the modulus is a power of 65537 by each of these, which one of a million million others is not
//! ("The Return of Coppersmith's Attack", Nemec and others, 2017, section 2.2).

/// Those of `M` for all lengths of keys. By chance a modulus passes them all once in 2.4e8 times.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
const GENERATOR: u32 = 65537;

/// `modulus` has its first byte first.
pub(super) fn is_computable(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| is_power(remainder(modulus, *prime), *prime))
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |so_far, byte| (so_far * 256 + u32::from(*byte)) % prime)
}

fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    loop {
        if power == number {
            return true;
        }
        power = power * (GENERATOR % prime) % prime;
        if power == 1 {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_the_generator_are_computable_and_others_are_not() {
        let mut power: u128 = 1;
        for _ in 0..7 {
            assert!(is_computable(&power.to_be_bytes()), "{power}");
            power *= u128::from(GENERATOR);
        }
        // A product of two of the primes is 0 by them, and no power is.
        for number in [3 * 167, 2, 65539, u128::MAX] {
            assert!(!is_computable(&number.to_be_bytes()), "{number}");
        }
    }
}
