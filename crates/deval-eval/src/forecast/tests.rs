use std::collections::BTreeMap;
use std::path::Path;

use super::own::Conduct;
use super::*;
use crate::contest::{self, update_scores};
use crate::harness::{Rewards, TaskSummary};
use crate::ranking;
use crate::stats::{Summary, t_975};
use crate::task::Task;

fn miner(uid: u32, score: f32, block: u64) -> Miner {
    Miner { uid, score, block: Some(block), evaluated: true, ..Miner::default() }
}

fn board(miners: Vec<Miner>) -> Leaderboard {
    Leaderboard { name: "test".into(), block: Some(1000), miners, ..Leaderboard::default() }
}

fn measured(mean: f64, standard_error: f64, degrees: f64, round_sd: f64) -> Measured {
    Measured { mean, standard_error, degrees, round_sd }
}

fn options(rounds: u32, draws: u32) -> ForecastOptions {
    ForecastOptions { rounds, draws, seed: 5, noise: None }
}

/// Normal distribution function by Simpson's rule.
fn normal_cdf(x: f64) -> f64 {
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let (steps, low) = (4000, -9.0);
    let h = (x - low) / f64::from(steps);
    let inner: f64 = (1..steps).map(|i| density(low + h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    h / 3.0 * (density(low) + inner + density(x))
}

fn near(estimate: Estimate, expected: f64) {
    let away = (estimate.value - expected).abs();
    assert!(away < 4.0 * estimate.error + 1e-9, "{estimate:?} is not {expected}");
}

#[test]
fn the_sample_is_made_by_its_seed_and_reads_back() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/forecast/leaderboard.json");
    let sample = Leaderboard::sample(15);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(sample.write() == text, "tests/fixtures/forecast/leaderboard.json is not Leaderboard::sample(15)");
    let (read, findings) = Leaderboard::read("leaderboard.json", &text);
    assert_eq!((read.miners.len(), &read, findings), (256, &sample, vec![]));
}

fn lines(findings: &[Diagnostic]) -> Vec<(&str, Option<u32>)> {
    findings.iter().map(|f| (f.code.as_str(), f.place.as_ref().and_then(|place| place.line))).collect()
}

#[test]
fn every_finding_of_a_json_leaderboard_comes_at_once_with_its_line() {
    let text = r#"{"deval_leaderboard": 1, "name": "a \"{[,", "block": 7,
        "miners": [{"uid": 0, "score": 0.5},
        {"uid": 0, "score": -0.5}, {"uid": 2, "score": 1.5, "block": 0,
          "model_hash": "F00D"},

        {"uid": 3, "score": 0.1, "blok": 3}, {"uid": 4},
        {"uid": 5, "score": 1e60, "mean_reward": 2, "spread": -1, "hotkey": "x\\"}
        ]}"#;
    let (board, findings) = Leaderboard::read("l.json", text);
    assert_eq!(board.miners.iter().map(|miner| miner.uid).collect::<Vec<_>>(), [0, 0, 2, 5]);
    assert_eq!(board.name, "a \"{[,");
    let expected = [
        ("leaderboard.score", Some(3)),
        ("leaderboard.score", Some(3)),
        ("leaderboard.block", Some(3)),
        ("leaderboard.model-hash", Some(3)),
        ("leaderboard.duplicate-uid", Some(3)),
        ("leaderboard.miner", Some(6)),
        ("leaderboard.miner", Some(6)),
        ("leaderboard.score", Some(7)),
        ("leaderboard.mean-reward", Some(7)),
        ("leaderboard.spread", Some(7)),
    ];
    assert_eq!(lines(&findings), expected);
}

#[test]
fn a_leaderboard_that_is_none_is_told() {
    let code = |text: &str| lines(&Leaderboard::read("l", text).1)[0].0.to_owned();
    assert_eq!(code("{\"deval_leaderboard\": 1,\n \"miners\": [}"), "leaderboard.unreadable");
    assert_eq!(code("{\"deval_leaderboard\": 1, \"miners\": [], \"more\": 1}"), "leaderboard.unreadable");
    assert_eq!(code("{\"deval_leaderboard\": 2, \"miners\": []}"), "leaderboard.version");
    assert_eq!(code("{\"deval_leaderboard\": 1, \"miners\": []}"), "leaderboard.empty");
    assert_eq!([code(""), code("a,b\n1,2"), code("uid,score,blok\n1,0.2,3")], ["leaderboard.unreadable"; 3]);
}

#[test]
fn csv_holds_the_same() {
    let text = "score, uid,block,evaluated,model_hash\n0.5,3,12,,\n0.25,4,,false,\n\n0.1,5\nNaN,6,1,,\n0.1,7,0,,12";
    let (board, findings) = Leaderboard::read("l.csv", text);
    let fading = Miner { block: None, evaluated: false, ..miner(4, 0.25, 1) };
    assert_eq!(board.miners[..2], [miner(3, 0.5, 12), fading]);
    let expected = [
        ("leaderboard.cells", Some(5)),
        ("leaderboard.miner", Some(6)),
        ("leaderboard.block", Some(7)),
        ("leaderboard.model-hash", Some(7)),
    ];
    assert_eq!(lines(&findings), expected);
}

#[test]
fn wrong_submissions_and_options_are_told_at_once() {
    let own = Own {
        commit: Commit::At(0),
        score: Some(f32::NAN),
        ..Own::new(Seat::Uid(9), measured(f64::NAN, -1.0, 0.0, f64::INFINITY))
    };
    let options = ForecastOptions { rounds: 0, draws: 1, seed: 0, noise: Some(f64::NAN) };
    let findings = forecast(&board(vec![miner(1, f32::NAN, 1)]), &own, &options).unwrap_err();
    let count = |code: &str| findings.iter().filter(|finding| finding.code == code).count();
    let codes = ["leaderboard.score", "forecast.own", "forecast.seat", "forecast.options"];
    assert_eq!(codes.map(count), [1, 6, 1, 3]);
}

/// The rounds as the validator computes them, by the functions that the golden vectors hold.
fn by_hand(
    averages: &BTreeMap<u32, f32>,
    scores: &[f32],
    blocks: &BTreeMap<u32, u64>,
    rounds: usize,
) -> (Vec<f32>, BTreeMap<u32, f64>) {
    let scores = (0..rounds).fold(scores.to_vec(), |scores, _| update_scores(&scores, averages));
    let by_uid: Vec<_> = (0..).zip(scores.iter().map(|score| f64::from(*score))).collect();
    (scores, ranking::rank(&by_uid, blocks).weights.into_iter().collect())
}

#[test]
fn without_noise_a_draw_is_the_validators_arithmetic() {
    let hash = |digit: &str| Some(digit.repeat(64));
    // 1 has the weights of 4, committed later and validated before it; 3 is not evaluated; 5 copies 2.
    let mut miners = vec![miner(0, 0.7, 50), miner(1, 0.66, 90), miner(2, 0.64, 10), miner(3, 0.62, 5)];
    miners.extend([miner(4, 0.4, 60), miner(5, 0.3, 70), miner(6, 0.05, 80)]);
    (miners[1].model_hash, miners[4].model_hash) = (hash("a"), hash("a"));
    (miners[2].model_hash, miners[5].model_hash) = (hash("b"), hash("b"));
    miners[3].evaluated = false;
    miners[6].mean_reward = Some(0.58);
    let own = Own { commit: Commit::At(40), ..Own::new(Seat::Uid(0), measured(0.83, 0.0, 9.0, 0.0)) };
    let stationary = |score: f32| (f64::from(score) + 0.025) as f32;
    let averages =
        BTreeMap::from([(0, 0.83), (2, stationary(0.64)), (3, 0.0), (4, stationary(0.4)), (5, 0.0), (6, 0.58)]);
    let blocks = BTreeMap::from([(0, 40), (2, 10), (4, 60), (6, 80)]);
    let scores: Vec<f32> = miners.iter().map(|miner| miner.score).collect();
    let got = forecast(&board(miners), &own, &options(4, 100)).unwrap();
    for (outlook, rounds) in [(&got.now, 1), (&got.later, 4)] {
        let (scores, weights) = by_hand(&averages, &scores, &blocks, rounds);
        assert_eq!((outlook.round as usize, outlook.score.q50), (rounds, f64::from(scores[0])));
        assert_eq!([outlook.weight.q05, outlook.weight.q95], [weights[&0]; 2]);
        let better = scores.iter().filter(|score| **score > scores[0]).count();
        assert_eq!(outlook.rank.q50, better as f64 + 1.0);
    }
    assert_eq!(got.start.block, Some(40));
    // Nobody has our weights, and the path ends where the outlook does.
    assert_eq!((got.start.duplicate_of, got.path.len()), (None, 4));
    assert!((got.path[3].weight.value - got.later.weight.q50).abs() < 1e-12);
}

#[test]
fn two_miners_with_noise_are_as_computed() {
    // One round, we commit later: tier 1 needs more than 8 % lead; a lag of more than 8 % is tier 2; within 8 % we get nothing.
    let (sd, error) = (0.04, 0.03);
    let miners = vec![miner(0, 0.6, 10), Miner { spread: Some(sd), ..miner(1, 0.58, 5) }];
    let own = Own::new(Seat::Uid(0), measured(0.63, error, 1e12, sd));
    let forecast = forecast(&board(miners), &own, &options(1, 40_000)).unwrap();
    let ours = 0.8 * 0.63 + 0.2 * 0.6 - 0.02;
    let (our_sd, their_sd) = (0.8 * (sd * sd + error * error).sqrt(), 0.8 * sd);
    let lead = (ours - 1.08 * 0.58) / (our_sd.powi(2) + (1.08 * their_sd).powi(2)).sqrt();
    let lag = (0.58 - 1.08 * ours) / (their_sd.powi(2) + (1.08 * our_sd).powi(2)).sqrt();
    let (best, second) = (normal_cdf(lead), normal_cdf(lag));
    assert!(best > 0.1 && second > 0.02 && best + second < 0.9, "{best} {second}");
    near(forecast.now.tiers[0].probability, best);
    near(forecast.now.tiers[1].probability, second);
    near(forecast.now.no_weight, 1.0 - best - second);
    near(forecast.now.weight.mean, 0.625 * best + 0.375 * second);
    near(forecast.now.first_of_tier, best + second);
}

#[test]
fn the_mean_is_drawn_from_students_t() {
    for degrees in [2, 5, 100] {
        // The border of 8 % lies at the 0.975 quantile.
        let border = 0.5 + 0.02 * t_975(degrees);
        let theirs = (0.8 * border + 0.2 * 0.5 - 0.02) / 1.08;
        let miners = vec![miner(0, 0.5, 10), miner(1, theirs as f32, 5)];
        let own = Own::new(Seat::Uid(0), measured(0.5, 0.02, degrees as f64, 0.0));
        let forecast = forecast(&board(miners), &own, &options(1, 40_000)).unwrap();
        near(forecast.now.tiers[0].probability, 0.025);
        near(forecast.now.score.mean, 0.8 * 0.5 + 0.2 * 0.5 - 0.02);
    }
}

#[test]
fn noise_lives_on_in_the_moving_average() {
    // The variance of the score after k rounds is 0.64·sd²·(1 + 0.04 + 0.04² + …).
    let own = Own { score: Some(0.5), ..Own::new(Seat::New, measured(0.525, 0.0, 9.0, 0.05)) };
    let forecast = forecast(&board(vec![miner(0, 0.5, 5)]), &own, &options(3, 40_000)).unwrap();
    let sd = 0.8 * 0.05 * (1.0f64 + 0.04 + 0.0016).sqrt();
    let got = (forecast.later.score.q95 - forecast.later.score.q05) / (2.0 * 1.644_853_6);
    assert!((got - sd).abs() < 0.02 * sd, "{got} {sd}");
    // Theirs varies alike: the better score is a toss-up.
    near(forecast.later.rank.mean, 1.5);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let board = Leaderboard::sample(3);
    let own = Own::new(Seat::New, measured(0.78, 0.03, 59.0, 0.02));
    let json = |seed| {
        let options = ForecastOptions { rounds: 3, draws: 300, seed, noise: None };
        serde_json::to_string(&forecast(&board, &own, &options).unwrap()).unwrap()
    };
    let text = json(1);
    assert_eq!(text, json(1));
    assert_ne!(text, json(2));
    let read: Forecast = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert!(!text.contains("\"value\":null") && !text.contains("\"error\":null"));
}

#[test]
fn the_earlier_commitment_takes_the_tier_and_a_new_one_loses_it() {
    let miners = vec![miner(0, 0.60, 10), miner(1, 0.61, 20), miner(2, 0.62, 30)];
    let own = Own::new(Seat::Uid(0), measured(0.63, 0.0, 9.0, 0.001));
    let forecast = forecast(&board(miners), &own, &options(2, 200)).unwrap();
    assert_eq!((forecast.now.weight.q05, forecast.later.weight.q05), (1.0, 1.0));
    let change = |what: &str| forecast.changes.iter().find(|change| change.what.starts_with(what)).unwrap();
    assert_eq!(change("new weights committed now").later.weight.value, 0.0);
    assert_eq!(change("new weights committed now").gain_later.value, -1.0);
    assert_eq!(change("reward +0.1 by new weights").later.best_tier.value, 1.0);
    assert!(forecast.changes.iter().all(|change| !change.what.contains("earliest")));
    assert_eq!(forecast.targets, []);
    // Without an accepted model in this round we fall behind the others.
    let second = 0.375 / (1.0 + 1.0f64.exp());
    assert!((change("one exception").now.weight.value - second).abs() < 1e-9);
    // A round later the block is there again, the score not yet: we lead the second tier.
    assert!((change("one exception").later.weight.value - (0.375 - second)).abs() < 1e-9);
    assert_eq!(change("not evaluated").now.weight.value, 0.0);
}

#[test]
fn the_target_is_the_mean_that_reaches_the_tier() {
    let miners = vec![miner(0, 0.5, 900), miner(1, 0.6, 5), miner(2, 0.52, 6)];
    let board = board(miners);
    let at = |mean: f64| {
        let own = Own::new(Seat::Uid(0), measured(mean, 0.01, 30.0, 0.01));
        forecast(&board, &own, &options(4, 2000)).unwrap()
    };
    let target = *at(0.53).targets.last().unwrap();
    assert_eq!((target.tier, target.probability), (1, 0.8));
    let mean = target.mean.unwrap();
    assert!(at(mean).later.tiers[0].probability.value >= 0.8);
    assert!(at(mean - 0.003).later.tiers[0].probability.value < 0.8);
    let first = Leaderboard { miners: vec![miner(0, 0.5, 900), miner(1, 0.97, 5)], ..board.clone() };
    let own = Own::new(Seat::Uid(0), measured(0.5, 0.01, 30.0, 0.01));
    let targets = forecast(&first, &own, &options(4, 200)).unwrap().targets;
    assert_eq!(targets.last().unwrap().mean, None);
}

#[test]
fn a_copy_earns_nothing_and_may_be_the_original() {
    let hash = Some("c".repeat(64));
    let with = |block, theirs| {
        let miners = vec![Miner { model_hash: hash.clone(), ..miner(4, 0.5, theirs) }, miner(7, 0.4, 5)];
        let own = Own {
            commit: Commit::At(block),
            model_hash: hash.clone(),
            ..Own::new(Seat::Uid(7), measured(0.9, 0.0, 9.0, 0.0))
        };
        forecast(&board(miners), &own, &options(2, 100)).unwrap()
    };
    let copy = with(31, 30);
    assert_eq!((copy.start.duplicate_of, copy.start.block), (Some(4), None));
    assert!((copy.later.score.q50 - 0.36).abs() < 1e-6);
    assert_eq!((copy.changes.len(), copy.catch_up), (1, None));
    assert!(copy.changes[0].gain_later.value > 0.0);
    assert!(copy.assumptions.iter().any(|said| said.contains("Miner 4 committed the same weights")));
    // In one block the later validated wins, and that is the higher uid.
    let original = with(30, 30);
    assert_eq!((original.start.duplicate_of, original.start.copied_by.as_slice()), (None, &[4][..]));
    assert_eq!(original.later.weight.q50, 1.0);
}

#[test]
fn seats_are_found() {
    let full: Vec<_> = (0..256).map(|uid| miner(uid, if uid == 77 { 0.1 } else { 0.2 }, 9)).collect();
    let reward = measured(0.6, 0.0, 9.0, 0.0);
    let start = |miners: Vec<Miner>, seat| forecast(&board(miners), &Own::new(seat, reward), &options(1, 100)).unwrap();
    let new = start(full.clone(), Seat::New);
    assert_eq!((new.start.uid, new.start.replaces, new.miners), (77, Some(77), 256));
    assert_eq!((new.start.score, new.start.block), (0.0, Some(1001)));
    let free = start(full[..200].to_vec(), Seat::New);
    assert_eq!((free.start.uid, free.start.replaces, free.miners), (200, None, 201));
    let replaced = start(full, Seat::Replaces(5));
    assert_eq!((replaced.start.replaces, replaced.start.score), (Some(5), 0.0));
    assert_eq!(start(vec![], Seat::New).now.weight.q05, 1.0);
}

#[test]
fn unknown_blocks_are_the_earliest_and_what_hangs_on_them_is_told() {
    let miners = vec![miner(0, 0.6, 10), Miner { block: None, ..miner(1, 0.61, 1) }];
    let own = Own::new(Seat::Uid(0), measured(0.63, 0.0, 9.0, 0.0));
    let forecast = forecast(&board(miners), &own, &options(1, 100)).unwrap();
    assert_eq!(forecast.now.weight.q95, 0.0);
    let change = forecast.changes.last().unwrap();
    assert!(change.what.starts_with("the 1 miners without a known block"), "{}", change.what);
    assert_eq!(change.now.weight.value, 1.0);
}

#[test]
fn the_moving_average_catches_up_in_few_rounds() {
    let course = Course { reward: measured(0.8, 0.0, 9.0, 0.0), score: 0.0, block: Some(1), conduct: Conduct::Earns };
    let catch_up = changes::catch_up(&course).unwrap();
    // 0.62, 0.744, 0.7688, … towards 0.775.
    assert!((catch_up.score - 0.775).abs() < 1e-6);
    assert_eq!(catch_up.rounds, 3);
    let there = Course { score: 0.775, ..course };
    assert_eq!(changes::catch_up(&there).unwrap().rounds, 0);
    let fades = Course { conduct: Conduct::Fades, ..course };
    assert_eq!(changes::catch_up(&fades), None);
    assert_eq!(contest::update_score(0.5, Some(0.0)), 0.48);
}

fn summary(mean: f64, standard_error: Option<f64>, examples: usize) -> Summary {
    Summary { n: examples, examples, mean, standard_error, t95: None, bootstrap95: None, label_noise: None, note: None }
}

#[test]
fn an_evaluation_gives_mean_error_and_noise() {
    let measured = Measured::overall(&summary(0.7, Some(0.04), 30)).unwrap();
    // A spread of 0.04·√30 between examples, over √120.
    assert_eq!((measured.degrees, measured.round_sd), (29.0, 0.02));
    assert_eq!(Measured::overall(&summary(0.7, None, 1)).unwrap_err().code, "forecast.no-interval");
    let task = |task, mean, error| TaskSummary { task, reward: summary(mean, Some(error), 10) };
    let [a, b, c, d] = Task::ALL;
    let tasks = vec![task(a, 0.9, 0.04), task(b, 0.5, 0.04), task(c, 0.7, 0.04), task(d, 0.3, 0.04)];
    let rewards = Rewards { overall: summary(0.6, Some(0.05), 40), tasks };
    let by_task = Measured::by_task(&rewards).unwrap();
    assert!((by_task.mean - 0.6).abs() < 1e-12 && (by_task.standard_error - 0.02).abs() < 1e-12);
    // 36 degrees when all tasks vary alike; 0.04·√10 per question over √120.
    assert!((by_task.degrees - 36.0).abs() < 1e-9);
    assert!((by_task.round_sd - 0.04 * (10.0f64 / 120.0).sqrt()).abs() < 1e-12);
    let fewer = Rewards { tasks: rewards.tasks[..3].to_vec(), ..rewards };
    assert_eq!(Measured::by_task(&fewer).unwrap().mean, 0.6);
}

#[test]
fn sections_tell_everything() {
    let own = Own::new(Seat::New, measured(0.82, 0.02, 59.0, 0.02));
    let forecast = forecast(&Leaderboard::sample(15), &own, &options(3, 500)).unwrap();
    let sections = forecast.sections();
    let titles: Vec<_> = sections.iter().map(|section| section.title.as_str()).collect();
    assert_eq!(titles, ["Forecast", "Tiers", "Round by round", "What would change it", "Assumptions"]);
    for table in sections.iter().filter_map(|section| section.table.as_ref()) {
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
    }
    let total: f64 = forecast.now.tiers.iter().map(|tier| tier.probability.value).sum();
    assert!((total + forecast.now.no_weight.value - 1.0).abs() < 1e-9);
    assert_eq!(sections[4].notes.len(), forecast.assumptions.len());
}
