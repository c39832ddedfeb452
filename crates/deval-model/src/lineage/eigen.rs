//! Eigenvalues of small symmetric matrices: reflections to three diagonals, then bisection, which never fails to converge.

/// Steps of the bisection; each halves the error, which ends below 1e-11 of the largest eigenvalue.
const STEPS: usize = 40;

/// Eigenvalues of a symmetric matrix (`n` rows of `n`, one after the other), largest first; only the `most` largest are computed.
pub(super) fn eigenvalues(mut matrix: Vec<f64>, n: usize, most: usize) -> Vec<f64> {
    let (diagonal, off) = tridiagonal(&mut matrix, n);
    // Every eigenvalue lies within a diagonal element and its neighbours (Gershgorin).
    let radius = |i: usize| off.get(i).copied().unwrap_or(0.0).abs() + i.checked_sub(1).map_or(0.0, |i| off[i].abs());
    let low = (0..n).map(|i| diagonal[i] - radius(i)).fold(f64::INFINITY, f64::min);
    let high = (0..n).map(|i| diagonal[i] + radius(i)).fold(f64::NEG_INFINITY, f64::max);
    (0..n).rev().take(most).map(|number| bisect(&diagonal, &off, number, low, high)).collect()
}

/// Householder's reduction: diagonal and the elements beside it.
fn tridiagonal(matrix: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut off = Vec::with_capacity(n.saturating_sub(1));
    for k in 0..n.saturating_sub(1) {
        let mut v: Vec<f64> = (k + 1..n).map(|i| matrix[i * n + k]).collect();
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let alpha = if v[0] > 0.0 { -norm } else { norm };
        off.push(alpha);
        v[0] -= alpha;
        let length = v.iter().map(|x| x * x).sum::<f64>();
        if length > 0.0 {
            reflect(matrix, n, k + 1, &v, 2.0 / length);
        }
    }
    ((0..n).map(|i| matrix[i * n + i]).collect(), off)
}

/// Reflects the block from `from` on at both sides: B − v wᵀ − w vᵀ with w = p − (β/2 · v·p) v and p = β B v.
fn reflect(matrix: &mut [f64], n: usize, from: usize, v: &[f64], beta: f64) {
    let row = |i: usize| (from + i) * n + from..(from + i + 1) * n;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut w: Vec<f64> = (0..v.len()).map(|i| beta * dot(&matrix[row(i)], v)).collect();
    let shift = beta / 2.0 * dot(&w, v);
    w.iter_mut().zip(v).for_each(|(w, v)| *w -= shift * v);
    for i in 0..v.len() {
        let (vi, wi) = (v[i], w[i]);
        let elements = matrix[row(i)].iter_mut().zip(v.iter().zip(&w));
        elements.for_each(|(element, (v, w))| *element -= vi * w + wi * v);
    }
}

/// The eigenvalue with this number, from the smallest.
fn bisect(diagonal: &[f64], off: &[f64], number: usize, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if below(diagonal, off, middle) > number { high = middle } else { low = middle }
    }
    f64::midpoint(low, high)
}

/// How many eigenvalues are smaller than `x`: the negative pivots of the matrix less `x` (Sturm).
fn below(diagonal: &[f64], off: &[f64], x: f64) -> usize {
    let mut pivot = 1.0;
    let mut count = 0;
    for (i, element) in diagonal.iter().enumerate() {
        let beside = i.checked_sub(1).map_or(0.0, |i| off[i] * off[i]);
        pivot = element - x - beside / pivot;
        if pivot == 0.0 {
            pivot = f64::MIN_POSITIVE;
        }
        count += usize::from(pivot < 0.0);
    }
    count
}

#[cfg(test)]
mod tests {
    use deval_eval::Dice;

    use super::*;

    #[test]
    fn known_spectra() {
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-9), "{found:?} {expected:?}");
        };
        near(eigenvalues(vec![], 0, 0), &[]);
        near(eigenvalues(vec![4.0], 1, 1), &[4.0]);
        near(eigenvalues(vec![0.0; 9], 3, 3), &[0.0; 3]);
        near(eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2, 2), &[3.0, 1.0]);
        near(
            eigenvalues(vec![2.0, -1.0, 0.0, -1.0, 2.0, -1.0, 0.0, -1.0, 2.0], 3, 3),
            &[2.0 + 2f64.sqrt(), 2.0, 2.0 - 2f64.sqrt()],
        );
        // All ones: one eigenvalue n, the others 0.
        near(eigenvalues(vec![1.0; 25], 5, 5), &[5.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn trace_and_squares_are_kept() {
        let n = 40;
        let mut dice = Dice::new(3, 0);
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let x = dice.normal();
                (matrix[i * n + j], matrix[j * n + i]) = (x, x);
            }
        }
        let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
        let squares: f64 = matrix.iter().map(|x| x * x).sum();
        let values = eigenvalues(matrix.clone(), n, n);
        assert_eq!(eigenvalues(matrix, n, 3), values[..3]);
        assert!(values.is_sorted_by(|a, b| a >= b));
        assert!((values.iter().sum::<f64>() - trace).abs() < 1e-8);
        assert!((values.iter().map(|x| x * x).sum::<f64>() - squares).abs() < 1e-6);
    }
}
