//! Powers of numbers that are not whole, in whole numbers.
//!
//! The library's `powf` may differ between machines in its last digits, and a decision may not. A
//! `Fixed` has 32 digits behind the point. Logarithms are found digit by digit by squaring; powers of
//! two are put together of the roots of two. Errors are a few units of the last digit.

/// 32 digits behind the point.
pub(crate) type Fixed = u64;

pub(crate) const ONE: Fixed = 1 << 32;

/// `2^64 * 2^-(2^-i)` for i of 1 to 32: what is left of one half, one quarter, and so on of halving.
const ROOTS: [u64; 32] = [
    0xb504_f333_f9de_6484,
    0xd744_fcca_d69d_6af4,
    0xeac0_c6e7_dd24_392f,
    0xf525_7d15_2486_cc2c,
    0xfa83_b2db_722a_033a,
    0xfd3e_0c0c_f486_c175,
    0xfe9e_115c_7b8f_884c,
    0xff4e_cb59_511e_c8a5,
    0xffa7_5652_1c8d_aed2,
    0xffd3_a751_c0f7_e10c,
    0xffe9_d2b2_f7db_2756,
    0xfff4_e91b_ff1b_8c3e,
    0xfffa_747e_a004_0664,
    0xfffd_3a3b_7814_eb54,
    0xfffe_9d1c_c60d_dab1,
    0xffff_4e8e_2587_9bfa,
    0xffff_a747_0363_f451,
    0xffff_d3a3_7dda_0313,
    0xffff_e9d1_bdf7_03af,
    0xffff_f4e8_debe_025e,
    0xffff_fa74_6f4f_a150,
    0xffff_fd3a_37a3_f8b0,
    0xffff_fe9d_1bd1_065a,
    0xffff_ff4e_8de8_45ae,
    0xffff_ffa7_46f4_1377,
    0xffff_ffd3_a37a_05e4,
    0xffff_ffe9_d1bd_01fc,
    0xffff_fff4_e8de_80c0,
    0xffff_fffa_746f_4051,
    0xffff_fffd_3a37_a025,
    0xffff_fffe_9d1b_d011,
    0xffff_ffff_4e8d_e808,
];

/// How often a number above zero must be halved to get to one. Of zero it is zero.
pub(crate) fn log2(number: u64) -> Fixed {
    let Some(whole) = number.checked_ilog2() else { return 0 };
    // Between one and two, with 63 digits behind the point.
    let mut rest = number << number.leading_zeros();
    let mut log = u64::from(whole);
    for _ in 0..32 {
        let square = (u128::from(rest) * u128::from(rest)) >> 63;
        let is_two = square >> 64 != 0;
        rest = (square >> u32::from(is_two)) as u64;
        log = (log << 1) | u64::from(is_two);
    }
    log
}

/// `2^-times`.
pub(crate) fn halved(times: Fixed) -> Fixed {
    let whole = times >> 32;
    if whole > 32 {
        return 0;
    }
    // One, with 64 digits behind the point.
    let mut left: u128 = 1 << 64;
    for (at, root) in (1..).zip(ROOTS) {
        if times >> (32 - at) & 1 == 1 {
            left = (left * u128::from(root)) >> 64;
        }
    }
    (left >> (32 + whole)) as u64
}

/// `2^times`, at most 2^31.
pub(crate) fn doubled(times: Fixed) -> Fixed {
    // So much more often than is wanted, and as much back.
    let whole = (times >> 32) + 1;
    if whole > 31 {
        return 1 << 63;
    }
    let back = (whole << 32) - times;
    // Divided by the power, which is at least one half, in 32 digits that are all there.
    halved(back) << whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(fixed: Fixed) -> f64 {
        fixed as f64 / ONE as f64
    }

    #[test]
    fn logarithms_and_powers_are_those_of_the_library() {
        for number in (1..2_000).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX, 999_999_937]) {
            assert!((float(log2(number)) - (number as f64).log2()).abs() < 1e-8, "{number}");
        }
        assert_eq!((log2(0), log2(1), log2(8)), (0, 0, 3 * ONE));
        for step in 0..5_000_u64 {
            let times = step * 30_000_001;
            assert!((float(halved(times)) - (-float(times)).exp2()).abs() < 1e-9, "{times}");
            let exact = float(times).exp2().min(f64::from(1_u32 << 31));
            assert!((float(doubled(times)) / exact - 1.0).abs() < 1e-8, "{times}");
        }
        assert_eq!((halved(0), halved(ONE), halved(u64::MAX)), (ONE, ONE / 2, 0));
        assert_eq!((doubled(0), doubled(ONE), doubled(u64::MAX)), (ONE, 2 * ONE, 1 << 63));
    }
}
