use std::path::Path;

use deval_llama::testing::{TinyLlama, write_tiny_llama};

use deval_eval::{Answer, Task};

use super::readings::{MOST_POINTS, distinct, median, points};
use super::*;
use crate::PromptFiles;

fn prompts() -> Prompts {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipeline/model"));
    let files = PromptFiles { pipeline: dir, pipeline_label: "pipeline/model", root: dir };
    Prompts::load(&Default::default(), files).unwrap()
}

fn native(reading: Reading) -> Native {
    native_with(reading, prompts(), 4)
}

fn native_with(reading: Reading, prompts: Prompts, max_new_tokens: usize) -> Native {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let options = NativeOptions { reading, max_new_tokens, seed: 7, model: "tiny".into(), own_stops: false };
    Native::new(Engine::load(dir.path()).unwrap(), prompts, AnswerParser::default(), options)
}

fn request(task: Task) -> Request {
    Request {
        task,
        rag_context: "Ana booked {the} room. Ben paid 3 bills.".into(),
        query: "Who paid?".into(),
        llm_response: "Ana paid 3 bills. Ben paid 3 bills.".into(),
    }
}

#[test]
fn every_reading_answers_every_task_and_says_the_same_twice() {
    for reading in [Reading::Generate, Reading::Constrained, Reading::Likelihood] {
        for task in Task::ALL {
            let request = request(task);
            let first = native(reading).answer(&request, 0).unwrap().answer;
            assert_eq!(first, native(reading).answer(&request, 0).unwrap().answer);
            let score = first.score.unwrap();
            let shape = match (reading, task) {
                (Reading::Generate, _) => score == -1.0 || (0.0..=1.0).contains(&score),
                (_, Task::Relevancy) => score == 0.0 || score == 1.0,
                (_, Task::Hallucination | Task::Attribution) => {
                    first.mistakes.iter().flatten().all(|mistake| request.llm_response.contains(mistake.as_str()))
                }
                (_, Task::SummaryCompleteness) => (0.0..=1.0).contains(&score),
            };
            assert!(shape, "{reading:?} {task}: {first:?}");
        }
    }
}

#[test]
fn each_sample_of_a_request_has_its_own_stream_whatever_was_asked_before() {
    let asked = request(Task::Hallucination);
    let mut fresh = native(Reading::Generate);
    let texts = [0, 1, 0].map(|sample| fresh.answer(&asked, sample).unwrap().raw.unwrap());
    assert_eq!(texts[0], texts[2]);
    assert_ne!(texts[0], texts[1]);
    let mut later = native(Reading::Generate);
    later.answer(&request(Task::Attribution), 0).unwrap();
    assert_eq!(later.answer(&asked, 0).unwrap().raw.unwrap(), texts[0]);
}

/// Requests of every task, some of which share their context, some of which are too long.
fn mixed() -> Vec<Request> {
    let texts = |number: usize| {
        let facts: String = (0..number % 4 + 1).map(|fact| format!("Ben paid {} bills. ", fact + number)).collect();
        let context = format!("Ana booked {{the}} room. {}", facts.repeat(number % 3 + 1));
        match number {
            5 => ("word ".repeat(3000), facts),
            7 => (context, String::new()),
            _ => (context, facts),
        }
    };
    let make = |number: usize| {
        let (rag_context, llm_response) = texts(number);
        Request { rag_context, llm_response, ..request(Task::ALL[number % 4]) }
    };
    (0..14).map(make).collect()
}

fn all_at_once(native: &mut Native, asks: &[Ask<'_>]) -> Vec<Reply> {
    let mut replies: Vec<Option<Reply>> = asks.iter().map(|_| None).collect();
    let hear = &mut |place: usize, reply| assert!(replies[place].replace(reply).is_none(), "one answer each");
    native.answer_all(asks, hear).map_err(|gave_up| gave_up.source).unwrap();
    replies.into_iter().map(Option::unwrap).collect()
}

/// Answers all at once, then one by one, and compares; in fewer steps and with seconds that add up.
fn same_together_and_alone(native: &mut Native, asks: &[Ask<'_>]) {
    let started = std::time::Instant::now();
    let together = all_at_once(native, asks);
    let whole = started.elapsed().as_secs_f64();
    let seconds: f64 = together.iter().map(|reply| reply.seconds).sum();
    assert!(0.0 < seconds && seconds <= whole, "{seconds} s of {whole} s");
    let steps = native.engine.stats().steps;
    for (ask, reply) in asks.iter().zip(together) {
        let alone = native.answer(ask.request, ask.sample).unwrap();
        assert_eq!((reply.answer, reply.raw), (alone.answer, alone.raw), "{ask:?}");
    }
    let alone = native.engine.stats().steps - steps;
    assert!(steps < alone, "{steps} steps together, {alone} one by one");
}

#[test]
fn many_are_answered_as_each_alone() {
    let requests = mixed();
    let asks: Vec<_> = requests.iter().flat_map(|request| [0, 1].map(|sample| Ask { request, sample })).collect();
    for (reading, prompts) in [
        (Reading::Generate, prompts()),
        (Reading::Constrained, prompts()),
        (Reading::Constrained, prompts_without_claims()),
        (Reading::Likelihood, prompts()),
    ] {
        same_together_and_alone(&mut native_with(reading, prompts, 20), &asks);
    }
}

#[test]
fn many_are_answered_as_each_alone_by_the_demo_model() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/deval/demo/model");
    if !dir.join("model.safetensors").exists() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name.trim() == "wheels"),
            "DEVAL_TEST_REQUIRE asks for the demo's model"
        );
        println!("skipped: no model in target/deval/demo; `cargo xtask demo` unpacks one");
        return;
    }
    let requests: Vec<_> = mixed().into_iter().skip(8).collect();
    let asks: Vec<_> = requests.iter().map(|request| Ask { request, sample: 0 }).collect();
    for reading in [Reading::Generate, Reading::Constrained, Reading::Likelihood] {
        let options = NativeOptions { reading, max_new_tokens: 8, seed: 7, model: "demo".into(), own_stops: false };
        let engine = Engine::load(&dir).unwrap();
        same_together_and_alone(&mut Native::new(engine, prompts(), AnswerParser::default(), options), &asks);
    }
}

#[test]
fn a_question_that_cannot_be_asked_ends_the_work_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama::default()).unwrap();
    let config = dir.path().join("tokenizer_config.json");
    let refuses =
        "{% for message in messages %}{% if 'BAD' in message['content'] %}{{ raise_exception('bad') }}{% endif %}";
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text.replace("{% for message in messages %}", refuses)).unwrap();
    let options = NativeOptions {
        reading: Reading::Constrained,
        max_new_tokens: 4,
        seed: 7,
        model: "tiny".into(),
        own_stops: false,
    };
    let mut native = Native::new(Engine::load(dir.path()).unwrap(), prompts(), AnswerParser::default(), options);
    let mut requests = mixed();
    requests[5].rag_context = "short".into();
    requests[10].rag_context = "BAD".into();
    let asks: Vec<_> = requests.iter().map(|request| Ask { request, sample: 0 }).collect();
    let gave_up = native.answer_all(&asks, &mut |place, _| assert_ne!(place, 10)).unwrap_err();
    assert_eq!(gave_up.place, 10, "{}", gave_up.source);
    assert!(gave_up.source.to_string().contains("bad"), "{}", gave_up.source);
    requests.truncate(10);
    let asks: Vec<_> = requests.iter().map(|request| Ask { request, sample: 0 }).collect();
    assert_eq!(all_at_once(&mut native, &asks).len(), 10, "the engine works on");
}

#[test]
fn a_question_longer_than_the_context_earns_what_upstream_would_give() {
    let mut request = request(Task::Hallucination);
    request.rag_context = "word ".repeat(20_000);
    let reply = native(Reading::Likelihood).answer(&request, 0).unwrap();
    assert_eq!(reply.answer, Answer::new(-1.0, Vec::new()));
    assert!(reply.raw.unwrap().contains("tokens"));
}

#[test]
fn a_run_tells_lengths_and_what_was_left_out() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_llama(dir.path(), &TinyLlama { context: 256, ..TinyLlama::default() }).unwrap();
    let settings = r#"{"eos_token_id": 2, "num_beams": 3, "repetition_penalty": 1.1}"#;
    std::fs::write(dir.path().join("generation_config.json"), settings).unwrap();
    let with = |reading| {
        let options = NativeOptions { reading, max_new_tokens: 4, seed: 7, model: "tiny".into(), own_stops: false };
        Native::new(Engine::load(dir.path()).unwrap(), prompts(), AnswerParser::default(), options)
    };
    let mut native = with(Reading::Generate);
    let lengths = native.answer(&request(Task::Hallucination), 0).unwrap().lengths;
    assert!(lengths.len() == 2 && lengths.iter().all(|text| text.answer <= 4), "{lengths:?}");
    assert!(lengths.iter().all(|text| text.beyond == text.prompt + text.answer - 256), "{lengths:?}");
    assert_eq!(native.answer(&request(Task::Relevancy), 0).unwrap().lengths.len(), 1);
    let Finish { findings, run, .. } = native.finish().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("`num_beams`") && findings[0].found.as_deref() == Some("3"));
    assert!(run["answer"][0] == 7 && run["prompt"][0].as_u64() > Some(50), "{run}");

    let mut native = with(Reading::Likelihood);
    let long = Request { rag_context: "Ana booked the room. ".repeat(40), ..request(Task::Hallucination) };
    assert_eq!(native.answer(&long, 0).unwrap().lengths, []);
    let Finish { findings, run, .. } = native.finish().unwrap();
    assert!(findings.len() == 1 && findings[0].code == "evaluate.context" && run.is_null(), "{findings:?}");
}

#[test]
fn the_median_splits_the_probability() {
    let logprobs = [0.2_f64, 0.2, 0.6].map(f64::ln);
    assert_eq!(median(&["0.0", "0.5", "1.0"], &logprobs), "1.0");
    assert_eq!(median(&["0.0", "0.5", "1.0"], &[0.4_f64, 0.3, 0.3].map(f64::ln)), "0.5");
}

#[test]
fn points_are_spread_over_the_context() {
    let context: String = (0..30).map(|n| format!("Fact number {n} stands here. ")).collect();
    let points = points(&context);
    assert_eq!(points.len(), MOST_POINTS);
    assert_eq!(points[0], "Fact number 0 stands here.");
    assert_eq!(points[11], "Fact number 27 stands here.");
}

/// The shipped prompts without those that judge one claim, as the reference pipeline has none.
fn prompts_without_claims() -> Prompts {
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipeline/model/prompts.py")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("prompts.py"), source.replace("_CLAIM_PROMPT", "_UNUSED")).unwrap();
    let files = PromptFiles { pipeline: dir.path(), pipeline_label: "pipeline", root: dir.path() };
    Prompts::load(&Default::default(), files).unwrap()
}

#[test]
fn listed_mistakes_are_sentences_of_the_response_whatever_the_model_says() {
    let mut native = native_with(Reading::Constrained, prompts_without_claims(), 60);
    let mut listed = 0;
    for response in [
        "Ana paid 3 bills. Ben paid 3 bills.",
        "Zoë left. Zoë left early!",
        "...",
        "",
        "a\tb\r\nc. Ünïcödé 🙂 said so.",
    ] {
        for task in [Task::Hallucination, Task::Attribution] {
            let request = Request { llm_response: response.into(), ..request(task) };
            let answer = native.answer(&request, 0).unwrap().answer;
            assert!((0.0..=1.0).contains(&answer.score.unwrap()));
            let sentences = distinct(response);
            let mistakes = answer.mistakes.unwrap();
            assert!(mistakes.iter().all(|mistake| sentences.contains(mistake)), "{response:?}: {mistakes:?}");
            listed += mistakes.len();
        }
    }
    assert!(listed > 0, "a model of random weights lists something");
}
