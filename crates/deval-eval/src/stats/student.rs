//! Quantiles of the normal and of Student's t distribution.

/// From here on the expansion around the normal quantile is as good as the exact series, and quicker.
const MANY_DEGREES: usize = 400;
/// Halvings of a search; more than an f64 has digits.
const HALVINGS: usize = 80;

/// 0.975 quantile of Student's t: the factor between a standard error and half of a 95 % interval. Infinite without a degree of freedom.
pub fn t_975(degrees: usize) -> f64 {
    t_quantile(0.975, degrees)
}

/// Quantile of Student's t for `p` between 0 and 1; infinite without a degree of freedom, unless `p` is a half. Good to nine digits for
/// `p` from 1e-6 to 1 − 1e-6.
pub fn t_quantile(p: f64, degrees: usize) -> f64 {
    let held = (2.0 * p - 1.0).abs();
    let size = match degrees {
        _ if held == 0.0 => 0.0,
        0 => f64::INFINITY,
        1..MANY_DEGREES => {
            let angle = search(std::f64::consts::FRAC_PI_2, |angle| t_within(angle, degrees) < held);
            angle.tan() * (degrees as f64).sqrt()
        }
        _ => expanded(normal_quantile(0.5 + held / 2.0), degrees as f64),
    };
    size.copysign(p - 0.5)
}

/// Quantile of the standard normal distribution for `p` between 0 and 1.
pub fn normal_quantile(p: f64) -> f64 {
    let held = (2.0 * p - 1.0).abs();
    search(8.0, |z| normal_within(z) < held).copysign(p - 0.5)
}

/// Where a growing condition turns from true to false between 0 and `high`.
fn search(high: f64, is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, high);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Probability of |T| ≤ t with t = √degrees · tan(angle), by the finite series for whole degrees of freedom (Abramowitz and Stegun 26.7.3
/// and 26.7.4).
fn t_within(angle: f64, degrees: usize) -> f64 {
    let (sin, cos) = angle.sin_cos();
    let is_odd = degrees % 2 == 1;
    let (mut exponent, mut term) = if is_odd { (1, cos) } else { (0, 1.0) };
    let mut sum = 0.0;
    while exponent + 2 <= degrees {
        sum += term;
        term *= cos * cos * (exponent + 1) as f64 / (exponent + 2) as f64;
        exponent += 2;
    }
    if is_odd { std::f64::consts::FRAC_2_PI * (angle + sin * sum) } else { sin * sum }
}

/// Probability of |Z| ≤ z for a standard normal Z (Abramowitz and Stegun 26.2.11).
fn normal_within(z: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    (2.0 / std::f64::consts::PI).sqrt() * (-z * z / 2.0).exp() * sum
}

/// Student's quantile from the normal one `z` for many degrees of freedom `v` (Abramowitz and Stegun 26.7.5).
fn expanded(z: f64, v: f64) -> f64 {
    let first = (z.powi(3) + z) / (4.0 * v);
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v);
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3));
    z + first + second + third
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy 1.17.1, `scipy.stats.t.ppf` and `norm.ppf`.
    #[test]
    fn quantiles_are_those_of_scipy() {
        let expected = [
            (0.975, 1, 12.706204736174694),
            (0.975, 2, 4.302652729749462),
            (0.975, 7, 2.364624251592784),
            (0.975, 30, 2.0422724563012378),
            (0.975, 119, 1.9800998764569397),
            (0.975, 400, 1.9659123432294627),
            (0.975, 401, 1.965897465336516),
            (0.975, 1000, 1.9623390808264083),
            (0.975, 100000, 1.9599877075346095),
            (0.8, 1, 1.3763819204711738),
            (0.8, 3, 0.9784723123633042),
            (0.8, 29, 0.8541919858818557),
            (0.8, 119, 0.8446521819726509),
            (0.8, 400, 0.84252075895591),
            (0.8, 1000, 0.8419808221624288),
            (0.99375, 1, 50.92303663648572),
            (0.99375, 2, 8.860200034654316),
            (0.99375, 29, 2.663195722592768),
            (0.99375, 119, 2.5362405818423204),
            (0.99375, 400, 2.509053822473996),
            (0.99375, 1000, 2.5022331532311775),
        ];
        for (p, degrees, quantile) in expected {
            let made = t_quantile(p, degrees);
            assert!((made / quantile - 1.0).abs() < 1e-9, "{p} {degrees}: {made}");
            assert!((made + t_quantile(1.0 - p, degrees)).abs() < 1e-7 * made);
        }
        for (p, quantile) in [(0.975, 1.959963984540054), (0.8, 0.8416212335729143), (0.99375, 2.497705474412374)] {
            assert!((normal_quantile(p) - quantile).abs() < 1e-10, "{p}");
        }
    }

    #[test]
    fn borders_are_no_numbers_by_accident() {
        assert_eq!((t_975(0), t_quantile(0.5, 0), t_quantile(0.5, 7)), (f64::INFINITY, 0.0, 0.0));
        assert_eq!((t_quantile(0.025, 0), normal_quantile(0.5).abs() < 1e-12), (f64::NEG_INFINITY, true));
    }
}
