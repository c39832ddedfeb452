//! The harness against a test double that misbehaves in every way, through the real engine.

mod support;

use std::time::{Duration, Instant};

use deval_container::{ContainerError, Engine, Gpu, Lane, Recipe, Refused, remove_leftovers};
use deval_eval::{Backend as _, api::Status};
use deval_report::gates::GateStatus;
use support::{Bench, ask, engine};

#[test]
fn every_kind_of_answer_is_what_the_validator_makes_of_it() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.run.memory = 512 << 20;
    bench.options.limits.answer = Duration::from_secs(120);
    let mut lane = bench.lane();
    let broken = (500, -1.0, Some(0), Status::Error);
    let gone = (0, -1.0, Some(0), Status::Error);
    for (what, expected) in [
        ("good", (200, 0.5, Some(1), Status::Success)),
        ("raise", broken),
        ("nan", broken),
        ("rejected", (200, -1.0, Some(0), Status::Success)),
        ("null", (200, 0.5, None, Status::Success)),
        ("invalid", (422, -1.0, Some(0), Status::Error)),
        ("garbage", gone),
        ("close", gone),
        ("huge:1000000", (200, -1.0, Some(0), Status::Error)),
        ("huge:40000000", gone),
        ("flood:1000", (200, 0.5, Some(1), Status::Success)),
    ] {
        let response = ask(&mut lane, what).response.expect("a container tells the response");
        let found = (
            response.http_status,
            response.score,
            response.mistakes.as_ref().map(Vec::len),
            response.client_status_message,
        );
        assert_eq!(found, expected, "{what}");
    }
    // The engine hands a flood over after the answer, and drops the middle of it.
    let deadline = Instant::now() + Duration::from_secs(60);
    while lane.log_bytes() < 20_000_000 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    let finish = lane.finish().unwrap();
    let failed: Vec<_> =
        finish.gates.iter().filter(|gate| gate.status == GateStatus::Fail).map(|gate| gate.code.as_str()).collect();
    assert_eq!(failed, ["G41", "G42", "G43"], "{:#?}", finish.gates);
    let log = finish.run["log"].as_str().unwrap();
    assert!(finish.run["log_bytes"].as_u64().unwrap() >= 20_000_000 && log.len() < 100_000, "the log is bounded");
    assert!(log.starts_with("{\"deval_phase\": \"import\"") && log.contains("bytes left out"));
}

#[test]
fn the_container_is_closed_and_bounded() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.limits.answer = Duration::from_secs(60);
    let mut lane = bench.lane();
    let mut told = |what: &str| ask(&mut lane, what).answer.mistakes.unwrap_or_default().join("\n");
    let disk = told("disk");
    assert_eq!(disk, "No space left on device (os error 28)\n8 MiB");
    let write = told("write");
    for path in ["/app/eval_llm/x", "/app/x", "/etc/passwd", "/x"] {
        let line = write.lines().find(|line| line.starts_with(&format!("{path}:"))).expect("a line for each");
        assert!(!line.ends_with("written"), "{line}");
    }
    assert!(write.contains("/tmp/x: written") && write.contains("NoNewPrivs: 1"), "{write}");
    assert!(write.contains("CapEff: 0000000000000000") && write.contains("Uid: 1000 1000"), "{write}");
    let fork = told("fork");
    assert_eq!(fork, "operation would block\n100 processes at most");
    assert_eq!(ask(&mut lane, "good").answer.score, Some(0.5), "it still answers");
}

#[test]
fn the_network_is_closed_unless_it_is_asked_to_be_open() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.limits.answer = Duration::from_secs(60);
    // Two at once, so neither keeps a journal.
    bench.options.journal = None;
    if !bench.engine.info.is_reachable || bench.engine.info.is_podman {
        eprintln!("skipped: on this engine a firewall closes the network, which the double does not have");
        return;
    }
    let told = |first: &mut Lane, other: &Lane| {
        ask(first, &format!("connect:{}", other.address().ip())).answer.mistakes.unwrap_or_default()
    };
    let closed = [(); 2].map(|()| bench.lane());
    let [mut first, other] = closed;
    assert_eq!(told(&mut first, &other), ["no name", "no connection"]);
    assert!(first.describe().why.contains("CPU") && !first.describe().why.contains("network"));
    bench.options.run.is_open = true;
    let [mut first, other] = [(); 2].map(|()| bench.lane());
    assert_eq!(told(&mut first, &other)[1], "a connection", "the probe can tell");
    assert!(first.describe().why.contains("could reach the network"));
}

#[test]
fn a_late_answer_delays_the_next_as_it_does_for_a_validator() {
    let Some(mut bench) = Bench::new() else { return };
    let mut lane = bench.lane();
    let mut status = |what: &str| ask(&mut lane, what).response.unwrap().client_status_message;
    assert_eq!(status("late:4500"), Status::Timeout, "2 s are over");
    assert_eq!(status("good"), Status::Timeout, "the server is still busy");
    assert_eq!(status("good"), Status::Success, "until it is not");
    assert_eq!(status("slow"), Status::Timeout, "a body that never ends");
    let finish = lane.finish().unwrap();
    let late = finish.gates.iter().find(|gate| gate.code == "G40").unwrap();
    assert_eq!(late.status, GateStatus::Fail);
    drop(lane);

    bench.options.is_serial_exact = false;
    let mut lane = bench.lane();
    let mut status = |what: &str| ask(&mut lane, what).response.unwrap().client_status_message;
    assert_eq!([status("late:4500"), status("good")], [Status::Timeout, Status::Success], "each is judged on its own");
    assert!(lane.describe().why.contains("late answers were waited for"));
}

#[test]
fn a_container_that_ends_while_it_is_asked_is_told_with_its_reason() {
    let Some(bench) = Bench::new() else { return };
    let (memory, killed) = killed_for_its_memory(&bench.engine);
    for (what, code, found) in [("memory", memory, killed), ("exit:3", "container.ended", "exit code 3")] {
        let mut lane = bench.lane();
        assert_eq!(ask(&mut lane, "good").answer.score, Some(0.5));
        for what in [what, "good", "good"] {
            assert_eq!(ask(&mut lane, what).answer.score, Some(-1.0), "{what}: no validator starts it again");
        }
        let finish = lane.finish().unwrap();
        assert_eq!(finish.findings[0].code, code);
        assert!(finish.findings[0].found.as_ref().unwrap().starts_with(found), "{:?}", finish.findings);
        assert!(finish.findings[0].message.contains("after 1 answers"), "{:?}", finish.findings);
        assert_eq!(finish.run["told"], serde_json::json!(["G41"]), "and not again by its gate");
    }
    let mut lane = bench.lane();
    lane.kill().unwrap();
    assert_eq!(ask(&mut lane, "good").answer.score, Some(-1.0));
    let finish = lane.finish().unwrap();
    assert_eq!(
        (finish.findings[0].code.as_str(), finish.run["ended"].as_str()),
        ("container.ended", Some("exit code 137: killed"))
    );
}

/// What is told of a container that is killed for its memory. Podman 4.3 itself does not know (`podman inspect`, `OOMKilled`).
fn killed_for_its_memory(engine: &Engine) -> (&'static str, &'static str) {
    if engine.info.is_podman {
        ("container.ended", "exit code 137: killed")
    } else {
        ("container.memory", "exit code 137: killed for its memory")
    }
}

#[test]
fn a_container_that_never_becomes_ready_is_a_finding() {
    let start = |start: &str, ready: u64| {
        let mut bench = Bench::new()?.starting(start);
        bench.options.limits.ready = Duration::from_secs(ready);
        Some(bench.finding())
    };
    let Some((code, text)) = start("import-error", 20) else { return };
    assert_eq!(code, "G35");
    assert!(
        text.contains("exit code 1\nTraceback") && text.contains("ModuleNotFoundError") && text.contains("500 s"),
        "{text}"
    );
    let (code, text) = start("port-taken", 20).unwrap();
    assert!(code == "G35" && text.contains("Address already in use"), "{text}");
    let (code, text) = start("memory", 20).unwrap();
    let engine = engine().expect("it was here before");
    let expected = killed_for_its_memory(&engine);
    let before_it_was_asked = if engine.info.is_podman { "G35" } else { expected.0 };
    assert!(code == before_it_was_asked && text.contains(expected.1), "{code} {text}");
    let (code, text) = start("hang", 3).unwrap();
    assert!(code == "G25" && text.contains("hangs in `import`"), "{code} {text}");
}

#[test]
fn a_container_that_listens_late_is_ready_then() {
    let Some(bench) = Bench::new() else { return };
    let bench = bench.starting("late:2500");
    let mut lane = bench.lane();
    assert_eq!(ask(&mut lane, "good").answer.score, Some(0.5));
    let finish = lane.finish().unwrap();
    assert!(finish.run["ready_seconds"].as_f64().unwrap() >= 2.0, "{}", finish.run);
    let phases: Vec<_> =
        finish.run["phases"].as_array().unwrap().iter().map(|phase| phase["deval_phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["import", "load", "ready"]);
    assert!(finish.margins.contains_key("G25"));
}

#[test]
fn another_hash_and_another_coldkey_are_findings() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.expected.model_hash = "f".repeat(64);
    bench.options.expected.coldkey = "5Other".to_owned();
    let Err(Refused::Findings(findings)) = bench.open() else { panic!("it is another package") };
    let found: Vec<_> =
        findings.iter().map(|finding| (finding.code.as_str(), finding.found.clone().unwrap())).collect();
    assert_eq!(found[1], ("G30", "\"5Cold\"".to_owned()));
    assert_eq!(found[0].0, "G27");
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let Some(bench) = Bench::new() else { return };
    let mut lane = bench.lane();
    let first = ["good", "raise"].map(|what| ask(&mut lane, what));
    drop(lane);
    let mut lane = bench.lane();
    let second = ["good", "raise"].map(|what| ask(&mut lane, what));
    assert_eq!(first, second);
    assert_eq!(lane.resumed(), 2);
    ask(&mut lane, "nan");
    lane.finish().unwrap();
    drop(lane);
    let mut lane = bench.lane();
    ask(&mut lane, "good");
    assert_eq!(lane.resumed(), 0, "a finished run starts anew");
}

#[test]
fn a_gpu_that_is_not_there_is_told_with_its_remedy() {
    let Some(mut bench) = Bench::new() else { return };
    if bench.engine.info.has_gpu {
        eprintln!("skipped: this engine has a GPU");
        return;
    }
    bench.options.run.gpu = Gpu::All;
    let Err(Refused::Failed(error)) = bench.open() else { panic!("there is no GPU") };
    assert!(matches!(&error, ContainerError::NoGpu { asked, .. } if asked == "all"), "{error}");
    assert!(error.to_string().contains("--gpu none"), "{error}");
    assert_eq!(remove_leftovers(&bench.engine).unwrap(), 0, "what could not be started was removed");
}

#[test]
fn an_image_is_built_once_and_a_failed_build_shows_its_last_lines() {
    let Some(engine) = engine() else { return };
    support::image(&engine);
    let mut heard = Vec::new();
    let again = support::recipe().ensure(&engine, &mut |line| heard.push(line.to_owned())).unwrap();
    assert!(again.was_there && heard.is_empty());
    let dockerfile = b"FROM scratch\nCOPY here.txt /\nCOPY nowhere.txt /\n".to_vec();
    let files = vec![("Dockerfile".to_owned(), dockerfile, 0o644), ("here.txt".to_owned(), b"x".to_vec(), 0o644)];
    let error =
        Recipe::of_files("deval/broken", files).ensure(&engine, &mut |line| heard.push(line.to_owned())).unwrap_err();
    let ContainerError::Build { why, tail, .. } = &error else { panic!("{error}") };
    assert!(why.contains("nowhere.txt") && tail.contains("COPY nowhere.txt"), "{error}");
    assert!(heard.iter().any(|line| line.contains("COPY here.txt")), "{heard:?}");
}
