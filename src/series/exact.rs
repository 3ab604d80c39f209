//! Sums of floating-point numbers without rounding: what is added can be taken away again, and the
//! order in which it comes does not matter. A window that moves is so summed by what comes and goes,
//! with the very bits that adding all of it anew would give.

/// Digits of 32 bits, from 2^-1074, the smallest number there is, to beyond the largest; 2^31 numbers
/// can be added before the highest could overflow.
const DIGITS: usize = 68;

/// The exponent of the lowest digit's lowest bit.
const LOWEST: i32 = -1074;

/// A sum. Digits are signed and overlap: nothing is carried until the sum is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    digits: Box<[i64; DIGITS]>,
}

impl Default for Exact {
    fn default() -> Self {
        Self { digits: Box::new([0; DIGITS]) }
    }
}

impl Exact {
    /// What is no finite number adds nothing: a track has none.
    pub fn add(&mut self, number: f64) {
        self.change(number, 1);
    }

    /// Takes away what was added.
    pub fn take(&mut self, number: f64) {
        self.change(number, -1);
    }

    fn change(&mut self, number: f64, by: i64) {
        if !number.is_finite() {
            return;
        }
        let bits = number.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        // Subnormal numbers have the exponent of the smallest normal ones, and no hidden bit.
        let (mantissa, place) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | 1 << 52, exponent - 1),
        };
        let by = if number < 0.0 { -by } else { by };
        let mut wide = u128::from(mantissa) << (place % 32);
        let first = usize::try_from(place / 32).unwrap_or(0);
        for digit in self.digits.iter_mut().skip(first).take(3) {
            *digit += by * i64::from(wide as u32);
            wide >>= 32;
        }
    }

    /// The sum divided by a count, rounded once, to nearest: the mean of equal numbers is that
    /// number. Infinite only where the quotient itself is too large.
    pub fn over(&self, count: u64) -> f64 {
        let count = u128::from(count.max(1));
        let (digits, negative) = self.carried();
        let Some(high) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
        // Four digits are at least 97 bits; with a count of 32 bits at least 65 are left.
        let low = high.saturating_sub(3);
        let top = digits.get(low..=high).unwrap_or_default();
        let wide = top.iter().rev().fold(0_u128, |wide, digit| wide << 32 | u128::from(*digit));
        let below = digits.get(..low).unwrap_or_default().iter().any(|digit| *digit != 0);
        let rest = below || wide % count != 0;
        // What is left out decides only between what is halfway: a lowest bit says that it is there.
        let quotient = ((wide / count) | u128::from(rest)) as f64;
        let exponent = LOWEST + 32 * i32::try_from(low).unwrap_or(0);
        // In two steps, since the smallest power of two alone is no normal number.
        let (one, other) = (exponent / 2, exponent - exponent / 2);
        let value = quotient * power(one) * power(other);
        if negative { -value } else { value }
    }

    /// The digits of the sum's size, each below 2^32, and whether it is negative.
    fn carried(&self) -> ([u32; DIGITS], bool) {
        let carry = |sign: i64| {
            let mut digits = [0_u32; DIGITS];
            let mut carry = 0_i64;
            for (to, from) in digits.iter_mut().zip(self.digits.iter()) {
                let sum = sign * from + carry;
                *to = sum as u32;
                carry = sum >> 32;
            }
            (digits, carry < 0)
        };
        match carry(1) {
            (_, true) => (carry(-1).0, true),
            positive => positive,
        }
    }
}

/// 2 to this power, of which a half of any exponent here is normal.
fn power(exponent: i32) -> f64 {
    f64::from_bits(u64::try_from(exponent + 1023).unwrap_or(0) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(numbers: &[f64]) -> Exact {
        let mut sum = Exact::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum
    }

    #[test]
    fn sums_are_rounded_once() {
        for (numbers, count, expected) in [
            (&[][..], 1, 0.0),
            (&[0.1; 10], 1, 1.0),
            (&[0.1; 3], 3, 0.1),
            (&[1e100, 1.0, -1e100], 1, 1.0),
            (&[f64::MAX, f64::MAX], 2, f64::MAX),
            (&[f64::MAX, f64::MAX], 1, f64::INFINITY),
            (&[-f64::MAX, 1.0], 1, -f64::MAX),
            (&[5e-324, 5e-324], 1, 1e-323),
            (&[-1.0, -2.0, -6.0], 3, -3.0),
            (&[1.0, 2.0_f64.powi(-53)], 1, 1.0),
            (&[1.0, 2.0_f64.powi(-53), 5e-324], 1, 1.0 + f64::EPSILON),
        ] {
            assert_eq!(sum(numbers).over(count), expected, "{numbers:?} over {count}");
        }
    }

    proptest! {
        #[test]
        fn what_was_added_can_be_taken_away_in_any_order(
            numbers in prop::collection::vec(any::<f64>().prop_filter("finite", |n| n.is_finite()), 0..40),
            kept in 0_usize..40,
        ) {
            let kept = kept.min(numbers.len());
            let mut all = sum(&numbers);
            numbers[kept..].iter().rev().for_each(|number| all.take(*number));
            prop_assert_eq!(all, sum(&numbers[..kept]));
        }

        #[test]
        fn whole_numbers_sum_as_whole_numbers(numbers in prop::collection::vec(any::<i32>(), 1..200)) {
            let floats: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
            let whole: i64 = numbers.iter().map(|number| i64::from(*number)).sum();
            prop_assert_eq!(sum(&floats).over(1), whole as f64);
        }

        #[test]
        fn the_mean_of_equal_numbers_is_that_number(number in any::<f64>(), count in 1_u64..2_000) {
            prop_assume!(number.is_normal());
            let mut all = Exact::default();
            (0..count).for_each(|_| all.add(number));
            prop_assert_eq!(all.over(count), number);
        }
    }
}
