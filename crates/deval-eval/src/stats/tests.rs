use super::*;

fn close(interval: Interval, (low, high): (f64, f64)) -> bool {
    (interval.low - low).abs() < 1e-9 && (interval.high - high).abs() < 1e-9
}

/// scipy 1.17.1: `stats.t.interval(0.95, 5, loc=x.mean(), scale=stats.sem(x))`.
#[test]
fn the_common_interval_when_examples_are_single() {
    let values: Vec<_> = [0.2, 0.4, 0.9, 0.55, 0.3, 0.75].into_iter().enumerate().collect();
    let summary = summarize(&values, (0.0, 1.0), Some(1));
    assert!((summary.standard_error.unwrap() - 0.1100504934614612).abs() < 1e-12);
    assert!(close(summary.t95.unwrap(), (0.23377286717182144, 0.7995604661615118)));
    assert!((summary.spread().unwrap() - 0.26956755).abs() < 1e-6);
}

/// scipy 1.17.1 over the means 0.3, 0.9, 0.6, 0.2 of the four examples.
#[test]
fn an_example_asked_more_often_counts_no_more() {
    let values = [(0, 0.2), (0, 0.4), (0, 0.3), (1, 0.9), (2, 0.5), (2, 0.7), (3, 0.1), (3, 0.1), (3, 0.2), (3, 0.4)];
    let summary = summarize(&values, (-1.0, 2.0), Some(1));
    assert_eq!((summary.n, summary.examples), (10, 4));
    assert!((summary.mean - 0.5).abs() < 1e-12);
    assert!((summary.standard_error.unwrap() - 0.15811388300841897).abs() < 1e-12);
    assert!(close(summary.t95.unwrap(), (-0.003188942794203231, 1.0031889427942033)));
    let boot = summary.bootstrap95.unwrap();
    assert!(boot.low >= 0.2 && boot.high <= 0.9, "means of examples are resampled, not values: {boot:?}");
}

#[test]
fn repeated_samples_of_one_example_count_once() {
    let once = summarize(&[(0, 0.2), (1, 0.8)], (0.0, 1.0), Some(1));
    let often: Vec<_> = (0..20).map(|i| (i % 2, if i % 2 == 0 { 0.2 } else { 0.8 })).collect();
    let often = summarize(&often, (0.0, 1.0), Some(1));
    assert_eq!((often.n, often.examples), (20, 2));
    assert!((once.standard_error.unwrap() - often.standard_error.unwrap()).abs() < 1e-12);
}

#[test]
fn few_or_equal_examples_promise_nothing() {
    let summary = summarize(&[(0, 0.2), (1, 0.8)], (0.0, 1.0), Some(1));
    assert_eq!(summary.t95, Some(Interval { low: 0.0, high: 1.0 }));
    assert!(summary.note.unwrap().contains("only 2 examples"));
    let equal = summarize(&[(0, 0.6), (1, 0.6)], (0.0, 1.0), Some(1));
    assert_eq!((equal.t95, equal.bootstrap95, equal.spread()), (None, None, Some(0.0)));
    assert!(equal.note.unwrap().contains("cannot show"));
    for values in [&[][..], &[(0, 0.4)], &[(3, 0.1), (3, 0.7)]] {
        let made = summarize(values, (0.0, 1.0), Some(1));
        assert_eq!((made.standard_error, made.t95, made.bootstrap95, made.reach()), (None, None, None, None));
        assert!((made.mean - if values.is_empty() { 0.0 } else { 0.4 }).abs() < 1e-12);
    }
}

#[test]
fn the_bootstrap_repeats_by_seed_and_covers_the_mean() {
    let values: Vec<_> = (0..40).map(|i| (i, (i % 7) as f64 / 6.0)).collect();
    let [a, b, c] = [3, 3, 4].map(|seed| summarize(&values, (0.0, 1.0), Some(seed)));
    assert_eq!(a, b);
    assert_ne!(a.bootstrap95, c.bootstrap95);
    let (t, boot) = (a.t95.unwrap(), a.bootstrap95.unwrap());
    assert!(boot.low < a.mean && a.mean < boot.high);
    assert!((t.low - boot.low).abs() < 0.03 && (t.high - boot.high).abs() < 0.03);
}

#[test]
fn quantiles_are_linear_between_neighbours() {
    assert_eq!([0.0, 0.5, 0.75, 1.0].map(|q| quantile(&[1.0, 2.0, 4.0], q)), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!([quantile(&[], 0.5), quantile(&[7.0], 0.3)], [0.0, 7.0]);
}
