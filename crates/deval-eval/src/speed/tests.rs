use super::*;
use crate::api;
use crate::task::{Answer, Task};

/// LLaMA 3 8B: 8.03 billion weights, of which the input table's 0.53 are only looked up.
const LLAMA_8B: ModelSize = ModelSize {
    layers: 32,
    multiplied: 8_030_261_248 - 128_256 * 4096,
    parameters: 8_030_261_248,
    bytes: 2 * 8_030_261_248,
    cache_numbers: 2 * 32 * 1024,
    query_width: 4096,
    context: 8192,
};

fn result(id: &str, lengths: &[(usize, usize)]) -> ExampleResult {
    let lengths = lengths.iter().map(|(prompt, answer)| Lengths { prompt: *prompt, answer: *answer, beyond: 0 });
    ExampleResult {
        id: id.to_owned(),
        digest: String::new(),
        task: Task::Hallucination,
        reference: 1.0,
        sample: 0,
        answer: api::receive(&Answer::new(1.0, Vec::new())),
        reward: None,
        aborts: None,
        raw: None,
        lengths: lengths.collect(),
    }
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} is not {expected}");
}

#[test]
fn a_token_reads_all_weights_once() {
    let l40s = GPUS[1].rates(&LLAMA_8B);
    // 15.01 GB of weights at 70 % of 864 GB/s, which is more than 32 layers of 0.46 ms, and 2.3 ms.
    close(l40s.answer_token, 15.01e9 / (0.7 * 864e9) + 2.3e-3);
    // An H100 reads them in 6.4 ms, so that starting the layers is what takes the time.
    close(GPUS[3].rates(&LLAMA_8B).answer_token, 32.0 * 0.46e-3 + 2.3e-3);
    // 131 kB of keys and values for each token before.
    close(l40s.cached, 131_072.0 / (0.7 * 864e9));
}

#[test]
fn a_prompt_is_bound_by_arithmetic_unless_it_is_short() {
    let t4 = GPUS[0].rates(&LLAMA_8B);
    // 1000 tokens: 15.01 TFLOP, and 0.26 for attention, at 40 % of 65 TFLOPS.
    let attention = 4.0 * 32.0 * 4096.0 * 1000.0 * 1000.0 / 2.0;
    close(t4.seconds(Lengths { prompt: 1000, answer: 0, beyond: 0 }), (15.01e12 + attention) / (0.4 * 65e12));
    assert_eq!(t4.seconds(Lengths { prompt: 1, answer: 0, beyond: 0 }), t4.answer_token);
}

#[test]
fn measured_rates_foretell_the_machine_they_were_measured_on() {
    let rates = Rates::measured((400, 2.0), (50, 5.0)).unwrap();
    close(rates.seconds(Lengths { prompt: 400, answer: 50, beyond: 0 }), 7.0);
    close(rates.seconds(Lengths { prompt: 800, answer: 10, beyond: 0 }), 5.0);
    assert_eq!(Rates::measured((0, 0.0), (50, 5.0)), None);
}

#[test]
fn questions_at_risk_are_named_with_the_answers_that_fit() {
    let rates = Rates::measured((1000, 1.0), (10, 1.0)).unwrap();
    let results = [
        result("short", &[(1000, 5)]),
        result("both", &[(1000, 50), (2000, 60)]),
        result("late", &[(1000, 100), (2000, 120)]),
        result("unknown", &[]),
    ];
    let found = predict(("here", "measured"), &rates, &results, 100);
    close(found.p50, 1.0 + 5.0 + 2.0 + 6.0);
    close(found.p99, 14.0 + 0.98 * (25.0 - 14.0));
    close(found.longest, 23.0);
    let named: Vec<&str> = found.at_risk.iter().map(|risk| risk.example.as_str()).collect();
    assert_eq!(named, ["both", "late"]);
    // Two answers behind prompts of 3 seconds: 17 seconds for twice that many tokens.
    assert_eq!(found.max_new_tokens, 85);
    let slow = Rates::measured((10, 1.0), (10, 1.0)).unwrap();
    assert_eq!(predict(("here", "measured"), &slow, &results, 100).max_new_tokens, 0);
}

#[test]
fn questions_beyond_the_context_are_named_once() {
    let long = |id: &str, tokens: usize| {
        let mut result = result(id, &[(tokens, 10), (50, 5)]);
        result.lengths[0].beyond = (tokens + 10).saturating_sub(100);
        result
    };
    assert_eq!(beyond_context(&[long("a", 90)], 100), None);
    let results: Vec<_> = (0..8).map(|n| long(&format!("e{}", n / 2), 60 + 20 * n)).collect();
    let finding = beyond_context(&results, 100).unwrap();
    assert_eq!(finding.found.unwrap(), "3 of up to 210 tokens with their answers: e3 (210), e2 (170), e1 (130)");
    assert!(!finding.message.is_empty() && finding.expected.unwrap().contains("100 tokens"));
}

#[test]
fn all_machines_are_told_of_and_what_does_not_fit_says_so() {
    let results = [result("a", &[(900, 20), (950, 120)])];
    let speed = Speed::of(&results, LLAMA_8B, 250).unwrap();
    let fits: Vec<bool> = speed.machines.iter().map(|machine| machine.fits).collect();
    assert_eq!(fits, [false, true, true, true]);
    assert!(speed.machines.windows(2).all(|pair| pair[0].p50 > pair[1].p50), "{speed:?}");
    assert!(speed.machines[1].max_new_tokens > 250, "{speed:?}");
    assert_eq!(Speed::of(&[result("a", &[])], LLAMA_8B, 250), None);
    let section = format!("{:?}", speed.section());
    assert!(section.contains("L40S") && section.contains("43 s of 60 s"), "{section}");
}
