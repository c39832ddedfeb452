//! Example sets, recorded answers, comparison, forecast, snapshots: the numbers, from the command line.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
};

use deval_hub::{HubClient, Journal, LocalFile, RepoId, Stamp, Subject, Token, listing_digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    harness::{Project, Ran, repository, skip},
    way::Localnet,
};

/// A generated set without summaries, which would need an encoder.
fn generated(project: &Project, per_task: &str) -> Vec<Value> {
    let tasks = ["--task", "relevancy", "--task", "hallucination", "--task", "attribution"];
    ok(&project.run(&[&["examples", "generate", "--out", "set.jsonl", "--per-task", per_task][..], &tasks].concat()));
    let text = fs::read_to_string(project.path("set.jsonl")).expect("it was written");
    text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON Lines")).collect()
}

fn ok(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
}

/// Writes answers to every example, as `answer` gives them for an example and its number.
fn answered(project: &Project, file: &str, examples: &[Value], answer: impl Fn(&Value, usize) -> (f64, Value)) {
    let line = |(number, example): (usize, &Value)| {
        let (score, mistakes) = answer(example, number);
        format!("{}\n", json!({ "id": example["id"], "score": score, "mistakes": mistakes }))
    };
    let text: String = examples.iter().enumerate().map(line).collect();
    fs::write(project.path(file), text).expect("writable");
}

fn right(example: &Value) -> (f64, Value) {
    (example["reference"].as_f64().expect("a number"), example["reference_mistakes"].clone())
}

fn evaluate(project: &Project, answers: &str, more: &[&str]) -> Value {
    project.json(&[&["evaluate", "--examples", "set.jsonl", "--answers", answers][..], more].concat())
}

#[test]
fn a_set_goes_through_csv_and_back_unchanged() {
    let project = Project::new();
    ok(&project.run(&["examples", "generate", "--out", "a.jsonl", "--per-task", "3", "--seed", "5"]));
    ok(&project.run(&["examples", "import", "a.jsonl", "--out", "b.csv"]));
    ok(&project.run(&["examples", "import", "b.csv", "--out", "c.jsonl"]));
    let digest = |file: &str| {
        let text = fs::read_to_string(project.path(file)).expect("it was written");
        let header: Value = serde_json::from_str(text.lines().next().expect("a header")).expect("JSON");
        (header["digest"].clone(), header["examples"].clone())
    };
    assert_eq!(digest("a.jsonl"), digest("c.jsonl"));
    assert_eq!(digest("a.jsonl").1, 12);
    let again = project.json(&["examples", "generate", "--out", "d.jsonl", "--per-task", "3", "--seed", "5"]);
    assert_eq!(again["result"]["digest"], digest("a.jsonl").0, "the same seed makes the same set");
    let shown = project.run(&["examples", "show", "c.jsonl", "--task", "hallucination"]);
    assert!(shown.stdout.contains("hallucination-5-000") && shown.stdout.contains("context"), "{}", shown.stdout);
}

#[test]
fn a_check_names_every_flaw_of_a_set() {
    let project = Project::new();
    let mut examples = generated(&project, "4");
    let claims =
        |example: &Value| example["reference_mistakes"].as_array().is_some_and(|mistakes| !mistakes.is_empty());
    let flawed = examples.iter_mut().find(|example| claims(example)).expect("some claim is false");
    flawed["reference_mistakes"][0] = json!("...");
    let context = flawed["rag_context"].as_str().expect("text").to_owned();
    let text: String = examples.iter().map(|example| format!("{example}\n")).collect();
    fs::write(project.path("flawed.jsonl"), text).expect("writable");
    fs::write(project.path("training.txt"), context).expect("writable");
    let ran = project.run(&["examples", "check", "flawed.jsonl", "--against", "training.txt"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("examples.dots") && ran.stdout.contains("share 13 words"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(ran.stdout.contains("bag of words"), "{}", ran.stdout);
}

#[test]
fn an_explanation_sums_to_the_distance_from_the_maximum_and_two_runs_are_equal() {
    let project = Project::new();
    let examples = generated(&project, "10");
    answered(&project, "answers.jsonl", &examples, |example, number| match number % 3 {
        0 => right(example),
        1 => (0.98, json!([])),
        _ => (-1.0, json!([])),
    });
    let first = evaluate(&project, "answers.jsonl", &[]);
    let result = &first["result"];
    let losses =
        result["explanation"].as_array().expect("a list").iter().map(|item| item["loss"].as_f64().expect("a number"));
    let mean = result["rewards"]["overall"]["mean"].as_f64().expect("a number");
    assert!((losses.sum::<f64>() - (1.0 - mean)).abs() < 1e-9, "{result}");
    assert_eq!(result["set"]["name"], "offline-0");
    let mut second = evaluate(&project, "answers.jsonl", &["--rerun"]);
    second["run"] = first["run"].clone();
    assert_eq!(first.to_string(), second.to_string(), "the same outside `run`");
    let noisy = evaluate(&project, "answers.jsonl", &["--label-noise", "0.1"]);
    let band = &noisy["result"]["rewards"]["overall"]["label_noise"]["band"];
    assert!(
        band["low"].as_f64().expect("a number") < mean && band["high"].as_f64().expect("a number") > mean,
        "{band}"
    );
}

#[test]
fn the_better_of_two_evaluations_is_told_with_its_chance() {
    let project = Project::new();
    let examples = generated(&project, "12");
    answered(&project, "bad.jsonl", &examples, |_, _| (0.5, json!([])));
    answered(&project, "good.jsonl", &examples, |example, _| right(example));
    for name in ["bad", "good"] {
        evaluate(&project, &format!("{name}.jsonl"), &["--save", &format!("{name}.json")]);
    }
    let ran = project.run(&["compare", "bad.json", "good.json"]);
    ok(&ran);
    assert!(ran.stdout.contains("B beats A by 0.") && ran.stdout.contains("p < 0.001"), "{}", ran.stdout);
    let same = project.json(&["compare", "good.json", "good.json"]);
    assert_eq!(same["result"]["overall"]["difference"]["mean"], 0.0);
    let settled = evaluate(&project, "good.jsonl", &["--until", "settled"]);
    let stopping = &settled["result"]["stopping"];
    assert_eq!(stopping["decision"], "better", "{stopping}");
    ok(&project.run(&[
        "examples",
        "generate",
        "--out",
        "other.jsonl",
        "--per-task",
        "2",
        "--seed",
        "9",
        "--task",
        "relevancy",
    ]));
    let other = fs::read_to_string(project.path("other.jsonl")).expect("it was written");
    let other: Vec<Value> = other.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    answered(&project, "other-answers.jsonl", &other, |example, _| right(example));
    ok(&project.run(&[
        "evaluate",
        "--examples",
        "other.jsonl",
        "--answers",
        "other-answers.jsonl",
        "--save",
        "other.json",
    ]));
    let ran = project.run(&["compare", "good.json", "other.json"]);
    assert_eq!(ran.code, 2, "other examples cannot be compared: {}", ran.stdout);
}

#[test]
fn recorded_answers_that_do_not_fit_are_told_all_at_once() {
    let project = Project::new();
    let examples = generated(&project, "1");
    fs::write(project.path("answers.jsonl"), "nonsense\n{\"id\":\"x\",\"points\":1}\n").expect("writable");
    let ran = project.run(&["evaluate", "--examples", "set.jsonl", "--answers", "answers.jsonl"]);
    assert_eq!(ran.code, 1);
    for part in ["answers.jsonl:1:", "answers.jsonl:2:", &format!("{} answers are missing", examples.len())] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn a_forecast_repeats_by_seed_and_names_what_would_change_it() {
    let project = Project::new();
    let examples = generated(&project, "10");
    answered(
        &project,
        "answers.jsonl",
        &examples,
        |example, number| if number % 4 == 0 { (0.5, json!([])) } else { right(example) },
    );
    evaluate(&project, "answers.jsonl", &["--save", "own.json"]);
    let board: PathBuf = repository().join("tests/fixtures/forecast/leaderboard.json");
    let board = board.to_str().expect("UTF-8");
    let forecast = |seed: &str| {
        project.json(&["forecast", "--leaderboard", board, "--report", "own.json", "--seed", seed, "--draws", "500"])
    };
    let first = forecast("1");
    assert_eq!(first["result"], forecast("1")["result"]);
    assert_ne!(first["result"]["now"], forecast("2")["result"]["now"]);
    let tiers = first["result"]["later"]["tiers"].as_array().expect("a list");
    let chance = |tier: &Value| tier["probability"]["value"].as_f64().expect("a number");
    let none = first["result"]["later"]["no_weight"]["value"].as_f64().expect("a number");
    assert!(
        (tiers.iter().map(chance).sum::<f64>() + none - 1.0).abs() < 1e-9,
        "every draw ends in a tier or without weight"
    );
    fs::write(project.path("board.csv"), "uid,score\n1,0.5\n1,0.4\n2,x\n").expect("writable");
    let ran = project.run(&["forecast", "--leaderboard", "board.csv", "--report", "own.json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("board.csv:3") && ran.stderr.contains("board.csv:4"), "{}", ran.stderr);
}

#[test]
fn a_snapshot_is_accepted_by_a_person_and_then_holds() {
    let project = Project::new();
    let examples = generated(&project, "2");
    answered(&project, "answers.jsonl", &examples, |example, _| right(example));
    let run = |mode: &str, is_ci: bool| {
        let mut command =
            project.command(&["evaluate", "--examples", "set.jsonl", "--answers", "answers.jsonl", "--snapshot", mode]);
        command.env_remove("CI").env_remove("INSTA_UPDATE");
        if is_ci {
            command.env("CI", "true");
        }
        let output = command.output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let files = || fs::read_dir(project.path("tests/snapshots")).map_or(0, Iterator::count);
    let (code, said) = run("check", true);
    assert!(code == Some(1) && said.contains("snapshot.new") && files() == 0, "{said}");
    let (code, said) = run("update", true);
    assert!(code == Some(2) && said.contains("never in CI") && files() == 0, "{said}");
    assert_eq!((run("update", false).0, run("check", true).0, files()), (Some(0), Some(0), 1));

    answered(&project, "answers.jsonl", &examples, |example, _| (1.0 - right(example).0, json!([])));
    let (code, said) = run("check", false);
    assert!(code == Some(1) && said.contains("snapshot.changed") && files() == 2, "a pending snapshot is left: {said}");
    assert_eq!(run("update", false).0, Some(0));

    // Another edition of the set leaves the old snapshot without anything that checks it.
    let edited = generated(&project, "1");
    answered(&project, "answers.jsonl", &edited, |example, _| right(example));
    let (code, said) = run("check", true);
    assert!(code == Some(1) && said.contains("snapshot.unreferenced"), "{said}");

    // A set of another name leaves the old snapshot in use as long as its file is there.
    ok(&project.run(&["examples", "import", "set.jsonl", "--name", "renamed", "--out", "renamed.jsonl"]));
    fs::remove_dir_all(project.path("tests/snapshots")).expect("it is there");
    assert_eq!(run("update", false).0, Some(0));
    let renamed = || {
        let arguments =
            ["evaluate", "--examples", "renamed.jsonl", "--answers", "answers.jsonl", "--snapshot", "update"];
        let output = project.command(&arguments).env_remove("CI").output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    assert_eq!(renamed().0, Some(0));
    fs::remove_file(project.path("set.jsonl")).expect("it is there");
    let (code, said) = renamed();
    assert!(code == Some(1) && said.contains("snapshot.unreferenced"), "{said}");
}

#[test]
fn what_makes_no_set_writes_no_file() {
    let project = Project::new();
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let ran = project.run(arguments);
        assert!(ran.code == code && ran.stderr.contains(said), "{arguments:?}: {} {}", ran.code, ran.stderr);
        assert!(!project.path("out.jsonl").exists(), "{arguments:?}");
    };
    fs::write(project.path("header.csv"), "task,api,model_id,rag_context,query,llm_response,reference\n")
        .expect("writable");
    fs::write(project.path("binary.jsonl"), b"{}\n\xff\xfe").expect("writable");
    refused(&["examples", "import", "header.csv", "--out", "out.jsonl"], 1, "examples.none");
    refused(&["examples", "import", "binary.jsonl", "--out", "out.jsonl"], 1, "binary.jsonl:2");
    refused(&["examples", "generate", "--out", "out.jsonl", "--dry-run"], 2, "--llm");
    refused(&["examples", "generate", "--out", "."], 2, "no regular file");
    ok(&project.run(&[
        "examples",
        "generate",
        "--out",
        "set.jsonl",
        "--per-task",
        "1",
        "--task",
        "relevancy",
        "--task",
        "relevancy",
    ]));
    assert_eq!(
        fs::read_to_string(project.path("set.jsonl")).expect("it was written").lines().count(),
        2,
        "a task counts once"
    );
    refused(&["examples", "import", "set.jsonl", "--upstream", "--out", "out.jsonl"], 2, ".csv");

    std::os::unix::fs::symlink(project.path("target.jsonl"), project.path("link.jsonl")).expect("a link");
    fs::write(project.path("target.jsonl"), "").expect("writable");
    ok(&project.run(&["examples", "import", "set.jsonl", "--out", "link.jsonl"]));
    assert!(fs::read_to_string(project.path("target.jsonl")).expect("it is there").contains("deval_examples"));
}

/// Publishes files of a folder on a local Hub, for everybody to read.
pub(crate) fn publish(project: &Project, hub: &str, repo: &str, folder: &Path, paths: &[&str]) {
    let files: Vec<_> = paths
        .iter()
        .map(|path| {
            let bytes = fs::read(folder.join(path)).expect("it is there");
            LocalFile {
                path: (*path).into(),
                source: folder.join(path),
                size: bytes.len() as u64,
                sha256: hex::encode(Sha256::digest(&bytes)),
                git_sha1: String::new(),
                stamp: Stamp::of(&folder.join(path)).expect("it is there"),
            }
        })
        .collect();
    let owner =
        HubClient::new(hub, Some(Token::new("hf_local").expect("a token")), &project.path("work")).expect("a client");
    let text = str::to_owned;
    let subject =
        Subject { hub: text(hub), repo: text(repo), chain: text("local/202"), listing: listing_digest(&files) };
    let journal = Journal::open(&project.path("journal"), subject).expect("writable");
    let repo = RepoId::parse(repo).expect("an id");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let plan = HubClient::plan(&files, &owner.remote_state(&repo).await.expect("it answers"), None);
        owner.upload(&repo, &plan, &files, &journal, &|_| {}).await.expect("it takes files");
        owner.set_private(&repo, false).await.expect("it does");
    });
}

#[test]
fn an_encoder_is_taken_from_the_hub_once_and_named_in_the_report() {
    let encoder = repository().join("target/deval/demo/all-MiniLM-L6-v2");
    if !encoder.join("config.json").exists() {
        skip("wheels", "no encoder in target/deval/demo; `cargo xtask demo` unpacks one");
        return;
    }
    let project = Project::new();
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let localnet = Localnet::start(&project);
    let files = ["config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"];
    publish(&project, &localnet.hub, "demo/encoder", &encoder, &files);
    project
        .manifest(&format!("[hub]\nendpoint = {:?}\n\n[evaluate]\nembedder_repo = \"demo/encoder\"\n", localnet.hub));
    let arguments = ["examples", "generate", "--out", "set.jsonl", "--per-task", "1", "--task", "summary_completeness"];
    ok(&project.run(&arguments));
    let text = fs::read_to_string(project.path("set.jsonl")).expect("it was written");
    let examples: Vec<Value> =
        text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
    answered(&project, "answers.jsonl", &examples, |example, _| right(example));
    let first = evaluate(&project, "answers.jsonl", &[]);
    assert_eq!(first["result"]["embedder"], "demo/encoder", "{first}");
    assert!(
        first["result"]["reasons"].to_string().contains("WhereIsAI/UAE-Large-V1"),
        "another encoder makes it an estimate"
    );
    drop(localnet);
    let again = evaluate(&project, "answers.jsonl", &["--rerun"]);
    assert_eq!(again["result"], first["result"], "the downloaded encoder is used again");
}

/// Answers one request as an OpenAI-compatible server that calls the tool it is given.
fn answer_as_a_model(stream: TcpStream, number: usize) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        head.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let text = json!({ "context": format!("Ana: I will book room {number}.\nBen: Good."), "action_item": format!("Ana will book room {number}.") });
    let call = json!({ "type": "function", "function": { "name": "f", "arguments": text.to_string() } });
    let reply = json!({ "choices": [{ "message": { "role": "assistant", "tool_calls": [call] } }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 20 } });
    let reply = reply.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{reply}",
        reply.len()
    )?;
    Ok(head)
}

#[test]
fn a_language_model_writes_examples_and_its_key_stays_unseen() {
    let project = Project::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/v1", server.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for (number, stream) in server.incoming().enumerate() {
            let head = answer_as_a_model(stream.expect("a connection"), number).expect("an HTTP request");
            assert!(head.contains("Bearer sk-secret"), "the key of .env is sent");
        }
    });
    fs::write(project.path(".env"), "OPENAI_API_KEY=sk-secret\n").expect("writable");
    let arguments =
        ["examples", "generate", "--llm", "openai", "--base-url", &url, "--model", "stand-in", "--task", "attribution"];
    let more = ["--per-task", "2", "--out", "written.jsonl", "--price", "1/2"];
    let ran = project.run(&[&arguments[..], &more].concat());
    ok(&ran);
    let text = fs::read_to_string(project.path("written.jsonl")).expect("it was written");
    assert_eq!(text.lines().count(), 3);
    assert!(text.contains("llm:stand-in") && text.contains("Ana will book room"), "{text}");
    assert!(!format!("{}{}{text}", ran.stdout, ran.stderr).contains("sk-secret"));
    let dry = project.run(&[&arguments[..], &more, &["--dry-run"]].concat());
    assert!(dry.stdout.contains("USD"), "{}", dry.stdout);
}
