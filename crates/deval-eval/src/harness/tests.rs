use super::*;
use crate::claims;
use crate::embed::HashedWords;
use crate::reward::exact_match;

/// `per_task` of the committed examples of each task (at most eight).
fn examples(per_task: usize) -> ExampleSet {
    let text = include_str!("../../../../tests/fixtures/examples/generated.jsonl");
    let (set, findings) = ExampleSet::read("generated.jsonl", text);
    assert_eq!(findings, []);
    let of = |task| set.examples.iter().filter(move |example| example.task == task).take(per_task).cloned();
    ExampleSet::new(set.info.clone(), Task::ALL.into_iter().flat_map(of).collect())
}

/// Answers from a function of the example set, with a clock that runs on by itself.
struct Scripted<F>(F, f64);

impl<F: FnMut(&Request) -> Answer> Backend for Scripted<F> {
    fn describe(&self) -> BackendInfo {
        let [name, model, why] = ["scripted", "none", "a test"].map(str::to_owned);
        BackendInfo { name, model, reading: None, lane: Lane::Estimate, why, evidence: BTreeMap::new() }
    }

    fn answer(&mut self, request: &Request, _: u32) -> Result<Reply, BackendError> {
        self.1 += 7.5;
        Ok(Reply { answer: (self.0)(request), seconds: self.1, raw: None, response: None, lengths: Vec::new() })
    }
}

fn run(examples: &ExampleSet, answer: impl FnMut(&Request) -> Answer) -> Evaluation {
    run_with(examples, answer, &OPTIONS).unwrap()
}

const OPTIONS: EvaluateOptions = EvaluateOptions { samples: 1, seed: 15, label_noise: None, until: Until::All };

fn run_with(
    examples: &ExampleSet,
    answer: impl FnMut(&Request) -> Answer,
    options: &EvaluateOptions,
) -> Result<Evaluation, EvalError> {
    evaluate(&mut Scripted(answer, 0.0), examples, &HashedWords, options, &mut |_, _| {})
}

fn means(rewards: &Rewards) -> Vec<f64> {
    std::iter::once(&rewards.overall)
        .chain(rewards.tasks.iter().map(|task| &task.reward))
        .map(|reward| reward.mean)
        .collect()
}

fn perfect(examples: &ExampleSet) -> impl FnMut(&Request) -> Answer {
    let mut truths: Vec<_> =
        examples.examples.iter().map(|e| Answer::new(e.reference, e.reference_mistakes.clone())).rev().collect();
    move |_| truths.pop().unwrap()
}

#[test]
fn right_answers_reach_the_ceiling_and_beat_every_baseline() {
    let examples = examples(8);
    let made = run(&examples, perfect(&examples));
    assert_eq!(means(&made.rewards), means(&made.ceiling));
    assert!(made.rewards.overall.mean > 0.9, "{:?}", made.rewards.overall);
    assert!(made.versus.difference.t95.unwrap().low > 0.0);
    assert!(made.meaning.contains("more than chance explains"), "{}", made.meaning);
    assert_eq!(made.rewards.tasks.iter().map(|task| task.task).collect::<Vec<_>>(), Task::ALL);
    assert!((f64::from(made.validator_average) - made.rewards.overall.mean).abs() < 1e-6);
}

#[test]
fn a_constant_answer_is_no_better_than_itself() {
    let examples = examples(4);
    let made = run(&examples, |_| Answer::new(1.0, vec![]));
    let same = made.baselines.iter().find(|result| result.baseline == Baseline::ConstantOne).unwrap();
    assert_eq!(means(&made.rewards), means(&same.rewards));
    assert!(made.meaning.contains("proves the plumbing, not the quality"), "{}", made.meaning);
}

#[test]
fn an_abort_is_typed_counted_and_comes_first() {
    let examples = examples(2);
    let made = run(&examples, |_| Answer { score: Some(0.5), mistakes: None });
    assert_eq!(made.aborts, 6);
    assert!(made.meaning.starts_with("6 of 8 answers would abort"), "{}", made.meaning);
    let aborted = made.results.iter().find(|result| result.task == Task::Hallucination).unwrap();
    assert!(aborted.reward.is_none() && aborted.aborts.as_ref().unwrap().reason.contains("null"));
}

#[test]
fn reports_hold_no_time_and_no_number_that_json_cannot_write() {
    let examples = examples(2);
    let made = run(&examples, |_| Answer::new(f64::NAN, vec![]));
    assert_eq!(made.unusable, 8);
    let text = serde_json::to_string(&made).unwrap();
    assert!(!text.contains("seconds") && !text.contains("NaN"));
    let back: Evaluation = serde_json::from_str(&text).unwrap();
    assert_eq!(Evaluation { timing: made.timing.clone(), ..back }, made);
    let slower = evaluate(
        &mut Scripted(|_: &Request| Answer::new(f64::NAN, vec![]), 99.0),
        &examples,
        &HashedWords,
        &OPTIONS,
        &mut |_, _| {},
    );
    let slower = slower.unwrap();
    assert_ne!(slower.timing, made.timing);
    assert_eq!(serde_json::to_string(&slower).unwrap(), text);
}

#[test]
fn timing_counts_what_the_validator_would_not_wait_for() {
    let timing = Timing::new(vec![1.0, 2.0, 30.0, f64::NAN], false);
    let latency = timing.latency.unwrap();
    assert_eq!((latency.p50, latency.max, latency.over_budget, timing.total), (1.5, 30.0, 1, 33.0));
    let together = Timing::new(vec![1.0, 30.0], true);
    assert_eq!((together.latency, together.total), (None, 31.0));
}

#[test]
fn progress_starts_at_zero_and_ends_at_all() {
    let examples = examples(1);
    let mut heard = Vec::new();
    let mut backend = Scripted(|_: &Request| Answer::default(), 0.0);
    evaluate(&mut backend, &examples, &HashedWords, &OPTIONS, &mut |done, all| heard.push((done, all))).unwrap();
    assert_eq!(heard, [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
}

/// Answers the last request first, and gives up where it is told to.
struct Backwards {
    gives_up_at: Option<usize>,
}

impl Backend for Backwards {
    fn describe(&self) -> BackendInfo {
        Scripted(|_: &Request| Answer::default(), 0.0).describe()
    }

    fn answers_together(&self) -> bool {
        true
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let answer = Baseline::WordOverlap.answer(request);
        let answer = if sample == 0 { answer } else { Answer::new(0.25, vec![]) };
        Ok(Reply { answer, seconds: 2.0, raw: None, response: None, lengths: Vec::new() })
    }

    fn answer_all(&mut self, asks: &[Ask<'_>], hear: &mut dyn FnMut(usize, Reply)) -> Result<(), GaveUp> {
        for (place, ask) in asks.iter().enumerate().rev() {
            if self.gives_up_at == Some(place) {
                return Err(GaveUp { place, source: "out of memory".into() });
            }
            hear(place, self.answer(ask.request, ask.sample).map_err(|source| GaveUp { place, source })?);
        }
        Ok(())
    }
}

/// An error with what is behind it.
fn whole(error: &EvalError) -> String {
    format!("{error}: {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
}

#[test]
fn answers_may_come_in_any_order_and_are_told_in_that_of_the_set() {
    let examples = examples(2);
    let options = EvaluateOptions { samples: 2, ..OPTIONS };
    let ask = |gives_up_at, heard: &mut Vec<usize>| {
        let mut progress = |done, _| heard.push(done);
        evaluate(&mut Backwards { gives_up_at }, &examples, &HashedWords, &options, &mut progress)
    };
    let mut heard = Vec::new();
    let made = ask(None, &mut heard).unwrap();
    assert_eq!(heard, (0..=16).collect::<Vec<_>>());
    for (place, result) in made.results.iter().enumerate() {
        let example = &examples.examples[place / 2];
        let expected = if place % 2 == 0 { Baseline::WordOverlap.answer(&example.request()).score } else { Some(0.25) };
        assert_eq!((&result.id, Some(result.answer.score)), (&example.id, expected));
    }
    assert_eq!((made.timing.total, made.timing.latency), (32.0, None));
    let error = whole(&ask(Some(5), &mut Vec::new()).unwrap_err());
    assert!(error.contains("out of memory") && error.contains(&examples.examples[2].id), "{error}");
}

#[test]
fn a_broken_backend_or_embedder_is_an_error_with_its_place() {
    struct Broken;
    impl Backend for Broken {
        fn describe(&self) -> BackendInfo {
            Scripted(|_: &Request| Answer::default(), 0.0).describe()
        }
        fn answer(&mut self, _: &Request, _: u32) -> Result<Reply, BackendError> {
            Err("out of memory".into())
        }
    }
    struct NoVector;
    impl Embed for NoVector {
        fn embed(&self, _: &str) -> Result<Vec<f32>, String> {
            Err("no weights".to_owned())
        }
        fn name(&self) -> &str {
            "none"
        }
    }
    let examples = examples(1);
    let error = whole(&evaluate(&mut Broken, &examples, &HashedWords, &OPTIONS, &mut |_, _| {}).unwrap_err());
    assert!(error.contains("out of memory") && error.contains(&examples.examples[0].id), "{error}");
    let mut fine = Scripted(|_: &Request| Answer::new(0.5, vec![]), 0.0);
    let error = evaluate(&mut fine, &examples, &NoVector, &OPTIONS, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("no weights") && error.contains("`none`"), "{error}");
    assert!(matches!(
        evaluate(&mut Broken, &self::examples(0), &HashedWords, &OPTIONS, &mut |_, _| {}),
        Err(EvalError::NoExamples { left_out: 0 })
    ));
}

/// Answers by the sample's number: the first sample is right, later ones say 0.
struct BySample<'a>(&'a ExampleSet);

impl Backend for BySample<'_> {
    fn describe(&self) -> BackendInfo {
        Scripted(|_: &Request| Answer::default(), 0.0).describe()
    }

    fn answer(&mut self, request: &Request, sample: u32) -> Result<Reply, BackendError> {
        let example = self.0.examples.iter().find(|example| example.request() == *request).unwrap();
        let right = Answer::new(example.reference, example.reference_mistakes.clone());
        let answer = if sample == 0 { right } else { Answer::new(0.0, vec![]) };
        Ok(Reply { answer, seconds: 1.0, raw: None, response: None, lengths: Vec::new() })
    }
}

#[test]
fn samples_are_averaged_within_their_example() {
    let examples = examples(4);
    let mut heard = 0;
    let options = EvaluateOptions { samples: 3, ..OPTIONS };
    let made =
        evaluate(&mut BySample(&examples), &examples, &HashedWords, &options, &mut |_, all| heard = all).unwrap();
    assert_eq!((heard, made.results.len(), made.timing.seconds.len(), made.samples), (48, 48, 48, 3));
    assert_eq!((made.rewards.overall.n, made.rewards.overall.examples), (48, 16));
    assert_eq!(made.results.iter().take(4).map(|result| result.sample).collect::<Vec<_>>(), [0, 1, 2, 0]);
    let zero = made.baselines[0].rewards.overall.mean;
    let expected = (made.ceiling.overall.mean + 2.0 * zero) / 3.0;
    assert!((made.rewards.overall.mean - expected).abs() < 1e-9);
    // Averages of an example vary less than single answers; the spread is that of the averages.
    let once = run(&examples, perfect(&examples));
    assert_ne!(made.rewards.overall.standard_error, once.rewards.overall.standard_error);
    let lost: f64 = made.explanation.iter().map(|item| item.loss).sum();
    assert!((lost - (1.0 - made.rewards.overall.mean)).abs() < 1e-9);
}

#[test]
fn the_seed_drives_the_bootstrap_and_the_noise_band_holds_the_mean() {
    let examples = examples(6);
    let answer = |request: &Request| Baseline::WordOverlap.answer(request);
    let options = EvaluateOptions { seed: 16, label_noise: Some(0.1), ..OPTIONS };
    let (plain, other) = (run(&examples, answer), run_with(&examples, answer, &options).unwrap());
    let (a, b) = (&plain.rewards.overall, &other.rewards.overall);
    assert_eq!((a.mean, a.t95, a.label_noise), (b.mean, b.t95, None));
    assert_ne!(a.bootstrap95, b.bootstrap95);
    let noise = b.label_noise.unwrap();
    assert!(noise.rate == 0.1 && noise.band.low < b.mean && b.mean < noise.band.high);
    assert!(noise.band.high - noise.band.low <= 0.2 && other.rewards.tasks[0].reward.label_noise.is_some());
}

#[test]
fn impossible_options_are_refused() {
    let examples = examples(1);
    let refused = |options| run_with(&examples, |_| Answer::default(), &options).unwrap_err();
    assert!(matches!(refused(EvaluateOptions { samples: 0, ..OPTIONS }), EvalError::NoSamples));
    for rate in [0.5, -0.1, f64::NAN] {
        let error = refused(EvaluateOptions { label_noise: Some(rate), ..OPTIONS });
        assert!(matches!(error, EvalError::LabelNoise(_)), "{error}");
    }
}

#[test]
fn examples_without_claim_labels_are_left_out_and_counted() {
    let mut examples = examples(2);
    for example in &mut examples.examples {
        example.mistakes_unknown = true;
    }
    let made = run(&examples, |_| Answer::new(1.0, vec![]));
    assert_eq!((made.results.len(), made.left_out), (2, 6));
    assert!(made.results.iter().all(|result| result.task == Task::Relevancy));
    assert!(made.reasons.iter().any(|reason| reason.contains("6 examples are left out")), "{:?}", made.reasons);
    examples.examples.retain(|example| example.task != Task::Relevancy);
    let error = run_with(&examples, |_| Answer::default(), &OPTIONS).unwrap_err();
    assert!(error.to_string().contains("none of the 6 examples"), "{error}");
}

#[test]
fn sampling_seeds_differ_by_everything_and_by_nothing_else() {
    let examples = examples(2);
    let [a, b] = [0, 1].map(|place| examples.examples[place].request());
    let seeds =
        [(1, &a, 0), (2, &a, 0), (1, &b, 0), (1, &a, 1)].map(|(seed, of, sample)| sampling_seed(seed, of, sample));
    assert_eq!(seeds.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert_eq!(sampling_seed(1, &a.clone(), 0), seeds[0]);
}

/// The real examples beside the repository, if they are there.
fn shared_examples() -> Option<Vec<ExampleSet>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !folder.is_dir() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "shared"), "DEVAL_TEST_REQUIRE asks for the shared examples");
        println!("skipped: the real examples (../shared/data) are not there");
        return None;
    }
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (set, findings) = ExampleSet::read(&name, &std::fs::read_to_string(path).unwrap());
        assert_eq!(findings, [], "{name}");
        set
    };
    Some(files.iter().map(read).collect())
}

/// Share of the labelled claims that the splitter finds, by the validator's own measure of resemblance.
fn found(examples: &[Example]) -> f64 {
    let (mut found, mut all) = (0.0, 0.0);
    for example in examples {
        let pieces: Vec<_> = claims::split(&example.llm_response).into_iter().map(str::to_owned).collect();
        let labels = [example.reference_mistakes.clone(), example.reference_true_values.clone()].concat();
        found += f64::from(exact_match(&labels, Some(&pieces)).unwrap()) * labels.len() as f64;
        all += labels.len() as f64;
    }
    found / all
}

#[test]
fn real_examples_are_read_and_scored() {
    let expected = [
        ("attribution.ami", [0.262, 0.346, 0.310], 1.0),
        ("attribution.commitments", [0.236, 0.444, 0.361], 1.0),
        ("attribution.qmsum", [0.231, 0.436, 0.217], 0.4),
        ("hallucination.begin", [0.280, 0.276, 0.500], 0.85),
        ("hallucination.halueval", [0.235, 0.384, 0.392], 0.85),
        ("hallucination.summedits", [0.225, 0.521, 0.602], 0.9),
        ("relevancy.qmsum", [0.5, 0.0, 0.5], 0.0),
        ("summary_completeness.qmsum", [0.201, 0.410, 0.350], 0.0),
    ];
    let Some(files) = shared_examples() else { return };
    for (examples, (expected_name, constants, splits)) in files.iter().zip(expected) {
        let name = &examples.info.name;
        let made = run(examples, perfect(examples));
        let mean = |i: usize| made.baselines[i].rewards.overall.mean;
        println!("{name}: right answers {:.3}, word overlap {:.3}", made.rewards.overall.mean, mean(3));
        assert_eq!(name, expected_name);
        assert_eq!([0, 1, 2].map(|i| format!("{:.3}", mean(i))), constants.map(|mean| format!("{mean:.3}")), "{name}");
        assert!(made.rewards.overall.mean > 0.87 && made.aborts == 0, "{name}");
        assert!(splits == 0.0 || found(&examples.examples) >= splits, "{name}: {}", found(&examples.examples));
    }
}
