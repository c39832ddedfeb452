//! A confidence sequence: an interval that may be looked at after every observation.

use super::Interval;

/// Grid cells per unit; the interval is read off the grid, outwards.
const CELLS_PER_UNIT: usize = 500;
/// Points of the grid over −1…1, both ends included.
const POINTS: usize = 2 * CELLS_PER_UNIT + 1;
/// Largest share of its capital that a bet may lose.
const BOLDNESS: f64 = 0.75;

/// Bounds for the mean of numbers in −1…1 that hold at all times at once: with probability of at least 1 − level the mean never leaves
/// the interval, however often one looks and whenever one stops.
///
/// The method is the hedged capital of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024,
/// section 4), with numbers scaled to 0…1. For every candidate mean m one gambler bets that the numbers lie above it and one that they lie
/// below; each multiplies its capital by 1 ± λ(x − m), where the stake λ depends on earlier numbers only (their predictable plug-in,
/// equation 26) and is cut so that no bet loses more than three quarters. If m is the mean, the capital is expected not to grow, so by
/// Ville's inequality it ever reaches 2/level with probability of at most level/2 on each side. The candidates whose gamblers never got
/// there are the interval; capitals are monotone in m, so it is one, and it only shrinks.
///
/// *Balanced rounds.* [`ConfidenceSequence::push_round`] takes one number from each of K strata, all with the stake of the round's start. The
/// strata's own means μₖ may differ; m is the mean of them. Given the past the numbers are independent, and the inequality of the means
/// gives E ∏(1 + λ(xₖ − m)) = ∏(1 + λ(μₖ − m)) ≤ (1 + λ(μ̄ − m))^K = 1: the bounds stay valid when one looks between rounds.
///
/// *Finite sets.* The proof takes the numbers for independent draws from whatever makes them, and bounds the mean of that. For the mean of a
/// finite set that is drawn in random order without replacement the sums are only more concentrated: with a fixed stake E ∏(1 + λ(x − m)) ≤ 1
/// at every time is Maclaurin's inequality. That all looks together keep the level there, with stakes that follow the numbers, is shown by
/// simulation in the tests and not proven.
#[derive(Debug, Clone)]
pub struct ConfidenceSequence {
    level: f64,
    above: Vec<f64>,
    below: Vec<f64>,
    /// First and last grid point that are not refused.
    kept: (usize, usize),
    count: usize,
    sum: f64,
    squares: f64,
}

impl ConfidenceSequence {
    /// Bounds that fail with probability of at most `level`, between 0 and 1.
    pub fn new(level: f64) -> Self {
        let even = vec![1.0; POINTS];
        Self { level, above: even.clone(), below: even, kept: (0, POINTS - 1), count: 0, sum: 0.0, squares: 0.0 }
    }

    /// Takes the next number; one outside −1…1 counts as the nearer end.
    pub fn push(&mut self, x: f64) {
        self.push_round(&[x]);
    }

    /// Takes one number from each stratum.
    pub fn push_round(&mut self, round: &[f64]) {
        let stake = self.stake();
        for x in round {
            let x = f64::midpoint(x.clamp(-1.0, 1.0), 1.0);
            self.bet(x, stake);
            self.count += 1;
            self.sum += x;
            let mean = (0.5 + self.sum) / (self.count + 1) as f64;
            self.squares += (x - mean).powi(2);
        }
        self.shrink();
    }

    /// Numbers taken so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean lies here; −1…1 at first. The ends are refused candidates, except −1 and 1 themselves.
    pub fn interval(&self) -> Interval {
        let at = |point: usize| point as f64 / CELLS_PER_UNIT as f64 - 1.0;
        let (first, last) = self.kept;
        Interval { low: at(first.saturating_sub(1)), high: at((last + 1).min(POINTS - 1)) }
    }

    /// The next stake, before it is cut for a candidate.
    fn stake(&self) -> f64 {
        let time = (self.count + 1) as f64;
        let variance = (0.25 + self.squares) / time;
        (2.0 * (2.0 / self.level).ln() / (variance * time * (time + 1.0).ln())).sqrt()
    }

    fn bet(&mut self, x: f64, stake: f64) {
        let (first, last) = self.kept;
        for point in first..=last {
            let m = point as f64 / (POINTS - 1) as f64;
            // At an end of the range the stake of one gambler is uncut (a division by zero): there it cannot lose.
            let (above, below) = (stake.min(BOLDNESS / m), stake.min(BOLDNESS / (1.0 - m)));
            self.above[point] = flushed(self.above[point] * (1.0 + above * (x - m)));
            self.below[point] = flushed(self.below[point] * (1.0 - below * (x - m)));
        }
    }

    /// Refuses the candidates against which a gambler got rich; at least one stays.
    fn shrink(&mut self) {
        let rich = 2.0 / self.level;
        let (mut first, mut last) = self.kept;
        while first < last && self.above[first] >= rich {
            first += 1;
        }
        while first < last && self.below[last] >= rich {
            last -= 1;
        }
        self.kept = (first, last);
    }
}

/// Gives up a capital that is nearly gone, before arithmetic gets slow on it; the bounds err on the safe side.
fn flushed(capital: f64) -> f64 {
    if capital < 1e-200 { 0.0 } else { capital }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dice;

    fn excludes_zero(sequence: &ConfidenceSequence) -> bool {
        let Interval { low, high } = sequence.interval();
        low > 0.0 || high < 0.0
    }

    /// How many of `repeats` runs ever exclude 0 when they are looked at after every round.
    fn ever_wrong(repeats: u64, rounds: usize, mut round: impl FnMut(&mut Dice, usize) -> Vec<f64>) -> usize {
        let run = |repeat: &u64| {
            let (mut dice, mut sequence) = (Dice::new(77, *repeat), ConfidenceSequence::new(0.05));
            (0..rounds).any(|number| {
                sequence.push_round(&round(&mut dice, number));
                excludes_zero(&sequence)
            })
        };
        (0..repeats).filter(run).count()
    }

    #[test]
    fn stopping_at_will_keeps_the_level() {
        // 400 repeats at 5 %: 20 expected at most, 33 with three standard errors more.
        let coin = ever_wrong(400, 500, |dice, _| vec![if dice.flip() { 0.4 } else { -0.4 }]);
        let skewed = ever_wrong(400, 500, |dice, _| vec![if dice.below(10) == 0 { 0.9 } else { -0.1 }]);
        println!("ever excluded a true mean: {coin} and {skewed} of 400");
        assert!(coin <= 33 && skewed <= 33, "{coin} {skewed}");
    }

    #[test]
    fn balanced_rounds_and_finite_sets_keep_the_level() {
        let strata = [0.4, -0.3, 0.1, -0.2];
        let balanced = ever_wrong(200, 125, |dice, _| strata.map(|mean| mean + 0.6 * (dice.unit() - 0.5)).to_vec());
        // 30 of each stratum without replacement; each stratum's numbers have exactly its mean.
        let mut orders: Vec<Vec<usize>> = Vec::new();
        let finite = ever_wrong(200, 30, |dice, number| {
            if number == 0 {
                orders = strata.iter().map(|_| dice.sample(30, 30)).collect();
            }
            let drawn = strata.iter().zip(&orders).map(|(mean, order)| mean + (order[number] as f64 - 14.5) / 30.0);
            drawn.collect()
        });
        println!("ever excluded a true mean: {balanced} and {finite} of 200");
        assert!(balanced <= 19 && finite <= 19, "{balanced} {finite}");
    }

    #[test]
    fn a_lead_is_settled_within_a_few_hundred() {
        let mut needed = Vec::new();
        for repeat in 0..60 {
            let (mut dice, mut sequence) = (Dice::new(5, repeat), ConfidenceSequence::new(0.05));
            while !excludes_zero(&sequence) && sequence.count() < 1000 {
                sequence.push((0.2 + 0.3 * dice.normal()).clamp(-1.0, 1.0));
            }
            needed.push(sequence.count());
        }
        needed.sort_unstable();
        println!("numbers until a lead of 0.2 is settled: {} at the median, {} at most", needed[30], needed[59]);
        assert!(needed[30] <= 100 && needed[59] <= 300, "{needed:?}");
    }

    #[test]
    fn the_interval_starts_whole_shrinks_and_closes_in() {
        let (mut dice, mut sequence) = (Dice::new(1, 0), ConfidenceSequence::new(0.05));
        assert_eq!(sequence.interval(), Interval { low: -1.0, high: 1.0 });
        let mut last = sequence.interval();
        for _ in 0..3000 {
            sequence.push(0.3 + 0.2 * (dice.unit() - 0.5));
            let now = sequence.interval();
            assert!(last.low <= now.low && now.low < now.high && now.high <= last.high);
            last = now;
        }
        assert!(last.low > 0.27 && last.low < 0.3 && last.high > 0.3 && last.high < 0.33, "{last:?}");
    }

    #[test]
    fn numbers_at_the_ends_and_beyond_break_nothing() {
        for x in [1.0, -1.0, 7.0, 0.0] {
            let mut sequence = ConfidenceSequence::new(0.01);
            (0..2000).for_each(|_| sequence.push(x));
            let Interval { low, high } = sequence.interval();
            let x = x.clamp(-1.0, 1.0);
            assert!(low <= x && x <= high && high - low < 0.05, "{x}: {low} {high}");
        }
    }
}
