//! What a count of losses allows to say of the loss behind it.

/// The one-sided upper 95 % bound of a share of which `hits` of `of` were seen, after Clopper and
/// Pearson (1934): the largest share that would still show so few hits in 5 % of all cases. With
/// no hit it is close to 3 / `of`, the "rule of three". None where nothing was seen.
pub fn upper_bound_95(hits: u64, of: u64) -> Option<f64> {
    const MISS: f64 = 0.05;
    if of == 0 {
        return None;
    }
    if hits >= of {
        return Some(1.0);
    }
    let count = of as f64;
    if hits == 0 {
        // 1 - 0.05^(1/n), without losing digits for a large n.
        return Some(-(MISS.ln() / count).exp_m1());
    }
    let hits = hits as f64;
    let (mut low, mut high) = (hits / count, 1.0);
    // The share of cases with at most so many hits falls as the share rises: halve until the
    // double can't tell any more.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        // P(X <= k) = I(1 - p; n - k, k + 1)
        if incomplete_beta(1.0 - middle, count - hits, hits + 1.0) > MISS {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(f64::midpoint(low, high))
}

/// The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) in Lentz's
/// way, on the side where that converges quickly.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    // It takes about the square root of the larger parameter steps.
    let steps = 200 + 5 * (a.max(b).sqrt() as u32);
    let guarded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guarded(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..=steps {
        let m = f64::from(step);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / guarded(1.0 + term * d);
            c = guarded(1.0 + term / c);
            result *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-13 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function for positive numbers: Stirling's series (DLMF 5.11.1) from
/// 10 on, and its recurrence below.
fn ln_gamma(x: f64) -> f64 {
    let mut shift = 0.0;
    let mut x = x;
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_published_bounds() {
        assert_eq!(upper_bound_95(0, 0), None);
        assert_eq!(upper_bound_95(5, 5), Some(1.0));
        // R: qbeta(0.95, k + 1, n - k)
        for (hits, of, expected) in [
            (0, 1, 0.95),
            (0, 100, 0.029_513_05),
            (0, 1_000, 0.002_991_25),
            (1, 100, 0.046_559_81),
            (2, 100, 0.061_619_44),
            (5, 10, 0.777_558_9),
        ] {
            let bound = upper_bound_95(hits, of).unwrap();
            assert!((bound - expected).abs() < 1e-5, "{hits} of {of}: {bound}, not {expected}");
        }
    }

    #[test]
    fn the_bound_leaves_five_percent_of_the_cases() {
        // The definition itself, summed exactly for counts where that is possible.
        for of in [3_u64, 20, 50] {
            for hits in 0..of {
                let p = upper_bound_95(hits, of).unwrap();
                let mut choose = 1.0;
                let mut cases = 0.0;
                for k in 0..=hits {
                    cases += choose * p.powi(k as i32) * (1.0 - p).powi((of - k) as i32);
                    choose *= (of - k) as f64 / (k + 1) as f64;
                }
                assert!((cases - 0.05).abs() < 1e-6, "{hits} of {of}: {cases}");
            }
        }
    }

    #[test]
    fn grows_with_hits_and_stays_above_the_share() {
        for of in [10_u64, 1_000, 100_000, 10_000_000_000] {
            let mut before = 0.0;
            for hits in [0, 1, 2, of / 4, of / 3, of / 2, of - 1] {
                let bound = upper_bound_95(hits, of).unwrap();
                assert!(bound.is_finite() && bound <= 1.0 && bound > hits as f64 / of as f64);
                assert!(bound >= before - 1e-12, "{hits} of {of}");
                before = bound;
            }
        }
    }
}
