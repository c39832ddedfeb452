//! `publish` and `commit` as a miner runs them: plans, halves, races, what is shown while bytes are on their way, and what never is.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    bad_input::evaluation,
    harness::{Project, Ran},
    numbers,
    way::{Localnet, registered},
};

const SECRET: &str = "hf_secretsecretsecretsecret";

fn result(project: &Project, arguments: &[&str]) -> Value {
    let report = project.json(arguments);
    assert_eq!(report["diagnostics"], json!([]), "{arguments:?}: {report:#}");
    report["result"].clone()
}

fn fate(result: &Value) -> &str {
    result["round"]["fate"].as_str().expect("a word")
}

/// How the gates stand that reads of the Hub decide.
fn gates(project: &Project) -> Vec<(String, String)> {
    let verdict = project.json(&["verdict"]);
    let gates = verdict["result"]["gates"].as_array().expect("51 gates").clone();
    let of_hub = ["G10", "G11", "G12", "G13", "G14", "G15", "G16", "G23", "G24", "G33"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let gates = gates.iter().map(|gate| (text(&gate["code"]), text(&gate["status"])));
    gates.filter(|(code, _)| of_hub.contains(&code.as_str())).collect()
}

#[test]
fn the_plan_tells_the_round_and_the_risks_and_reads_fill_the_gates() {
    let project = registered();
    let plan = result(&project, &["publish"]);
    assert_eq!((fate(&plan), plan["public"].as_bool()), ("not-in-it", Some(false)));
    assert!(plan["risks"][0].as_str().expect("a risk").contains("private until"), "{plan:#}");
    assert!(plan["bytes"].as_u64().expect("bytes") > 100_000, "{plan:#}");
    let shown = project.run(&["publish"]).stdout;
    assert!(shown.contains("round in progress") && shown.contains("nothing to lose"), "{shown}");

    let published = result(&project, &["publish", "--execute"]);
    assert!(published["sent"].as_u64() > Some(0) && published["public"] == false, "{published:#}");
    let after: Vec<_> = gates(&project);
    let unknown: Vec<_> =
        after.iter().filter(|(_, status)| status == "unknown").map(|(code, _)| code.as_str()).collect();
    assert_eq!(unknown, ["G10", "G11", "G24"], "what only a stranger's read tells");
    result(&project, &["commit", "--execute"]);
    for (code, status) in gates(&project) {
        let expected = if ["G15", "G33"].contains(&code.as_str()) { "warn" } else { "pass" };
        assert_eq!(status, expected, "{code}");
    }

    let begin = Instant::now();
    let again = result(&project, &["publish", "--execute"]);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!((&again["sent"], &again["new_hub_commit"], fate(&again)), (&json!(0), &json!(false), "untouched"));
    assert_eq!(gates(&project)[0], ("G10".into(), "pass".into()), "what is public is read as a stranger reads it");

    fs::write(project.path("model/NOTES.md"), "more").expect("writable");
    let plan = result(&project, &["publish"]);
    assert_eq!((fate(&plan), &plan["add"]), ("partly", &json!(["NOTES.md"])));
    assert!(plan["risks"][0].as_str().expect("a risk").contains("becomes private"), "{plan:#}");
}

#[test]
fn a_half_is_published_beside_the_other() {
    let project = registered();
    let ran = project.run(&["publish", "--only", "pipeline"]);
    assert!(ran.code == 1 && ran.stderr.contains("publish.no-other-half"), "{}", ran.stderr);
    result(&project, &["publish", "--execute"]);
    let committed = result(&project, &["commit", "--execute"]);

    // Another pipeline: the weights, their hash and the commitment stay, and so does the visibility.
    let pipeline = project.path("pipeline");
    copy(&crate::harness::repository().join("pipeline/model"), &pipeline);
    fs::write(pipeline.join("extra.py"), "LIMIT = 3\n").expect("writable");
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("written");
    let lines = manifest
        .lines()
        .map(|line| if line.starts_with("pipeline_dir") { "pipeline_dir = \"pipeline\"" } else { line });
    project.manifest_text(&lines.collect::<Vec<_>>().join("\n"));
    fs::write(project.path("model/NOTES.md"), "of the other half").expect("writable");
    let plan = project.run(&["publish", "--only", "pipeline"]);
    assert!(
        plan.stdout.contains("whose date moves (gate 33)") && plan.stdout.contains("stays public"),
        "{}",
        plan.stdout
    );
    let published = result(&project, &["publish", "--only", "pipeline", "--execute"]);
    assert_eq!((&published["add"], &published["delete"]), (&json!(["model/extra.py"]), &json!([])));
    assert_eq!((&published["public"], &published["weights"]), (&json!(true), &json!(true)));
    let again = result(&project, &["commit", "--execute"]);
    assert_eq!((&again["extrinsic"], &again["block"]), (&Value::Null, &committed["block"]), "no chain commitment");

    // The other half.
    let published = result(&project, &["publish", "--only", "model", "--execute"]);
    let added: Vec<_> = published["add"].as_array().expect("files").iter().filter_map(Value::as_str).collect();
    assert_eq!((added, &published["public"]), (vec!["NOTES.md"], &json!(false)));
    result(&project, &["commit", "--execute"]);
    assert_eq!(result(&project, &["publish"])["add"], json!([]), "both halves together are all of it");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("readable")) {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("writable");
        }
    }
}

#[test]
fn what_somebody_else_did_to_the_repository_is_told_before_anything_goes_on_chain() {
    let project = registered();
    result(&project, &["publish", "--execute"]);
    let localnet = Localnet::start(&project);
    fs::write(project.path("theirs.txt"), "theirs").expect("writable");
    numbers::publish(&project, &localnet.hub, "demo/tiny", &project.path("."), &["theirs.txt"]);
    drop(localnet);
    let ran = project.run(&["commit", "--execute"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for said in ["hub.head-moved", "theirs.txt", "commit.hub-changed", "nothing was committed on chain"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert_eq!(result(&project, &["commit"])["block"], Value::Null, "the chain was not asked");
    let plan = result(&project, &["publish"]);
    assert_eq!(plan["delete"], json!(["theirs.txt"]), "the new plan tells what would be overwritten");
}

#[test]
fn a_transaction_about_something_else_is_told_and_not_continued() {
    let project = Project::new();
    project.manifest(&evaluation());
    result(&project, &["publish", "--execute"]);
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("written");
    project.manifest_text(&manifest.replace("demo/tiny", "demo/other"));
    let ran = project.run(&["publish", "--execute"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("did not end: demo/tiny on http://"), "{}", ran.stderr);
    fs::write(project.path("target/deval/transaction.jsonl"), "{\"what\":1}\n").expect("writable");
    let ran = project.run(&["publish", "--execute"]);
    assert!(ran.code == 2 && ran.stderr.contains("transaction.jsonl:1: not a journal record"), "{}", ran.stderr);
}

#[test]
fn progress_is_lines_json_or_nothing() {
    let lines = |ran: &Ran| ran.stderr.lines().map(str::to_owned).collect::<Vec<_>>();
    let run = |arguments: &[&str]| {
        let project = Project::new();
        project.manifest(&evaluation());
        let ran = project.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    let plain = run(&["publish", "--execute"]);
    assert!(
        lines(&plain).iter().any(|line| line.starts_with("publishing: ") && line.contains("known to the Hub")),
        "{}",
        plain.stderr
    );
    let json = run(&["publish", "--execute", "--progress", "json", "--format", "json"]);
    let events: Vec<Value> =
        lines(&json).iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let transfers: Vec<_> = events.iter().filter(|event| event["event"] == "transfer").collect();
    let last = transfers.last().expect("it was told");
    assert_eq!(last["bytes_done"], last["bytes_total"]);
    for key in ["bytes_sent", "deduplicated", "bytes_per_second", "seconds_left"] {
        assert!(last[key].is_number(), "{key}: {last}");
    }
    assert_eq!(lines(&run(&["publish", "--execute", "--quiet"])), [""; 0]);
    let none = run(&["publish", "--execute", "--progress", "none"]);
    assert!(none.stderr.contains("evaluate  runs") && !none.stderr.contains("publishing"), "{}", none.stderr);
}

/// Command lines of all processes, while a run lasts.
fn watched(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String, usize) {
    let mut command = project.command(arguments);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let (mut looks, mut seen) = (0, String::new());
    while child.try_wait().expect("a child").is_none() {
        for process in fs::read_dir("/proc").expect("Linux").map_while(Result::ok) {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            seen.push_str(&String::from_utf8_lossy(&line));
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("it is gone");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), seen, looks)
}

fn assert_nowhere(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a folder").map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            assert_nowhere(&path);
        } else if path.is_file() && path.file_name().is_some_and(|name| name != "token") {
            let bytes = fs::read(&path).unwrap_or_default();
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_token_is_shown_and_kept_nowhere_and_the_users_home_is_left_alone() {
    let project = Project::new();
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    fs::create_dir_all(project.path("home")).expect("writable");
    project.manifest(&evaluation());
    let home = project.path("home").to_string_lossy().into_owned();
    let variables = [
        ("HUGGINGFACE_TOKEN", SECRET),
        ("HF_TOKEN", SECRET),
        ("HOME", &home),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "1"),
    ];
    let (said, seen, looks) = watched(&project, &["publish", "--execute"], &variables);
    assert!(looks > 3 && !said.contains(SECRET) && !seen.contains(SECRET), "{said}");
    assert_eq!(fs::read_dir(&home).expect("a folder").count(), 0, "hf-xet keeps its caches under target/deval");

    // On a real network the token is sent: to a Hub that takes it, one that refuses it, and one that is down.
    let localnet = Localnet::start(&project);
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("written");
    let manifest = manifest.replace("[submission]\n", "[submission]\nnetwork = \"test\"\n");
    project.manifest_text(&format!("{manifest}\n[hub]\nendpoint = {:?}\n", localnet.hub));
    fs::write(project.path("home/token"), format!("{SECRET}\n")).expect("writable");
    let file = project.path("home/token").to_string_lossy().into_owned();
    let ways: [&[(&str, &str)]; 2] = [&[("HF_TOKEN", SECRET)], &[("HF_TOKEN_PATH", &file)]];
    for (number, way) in ways.into_iter().enumerate() {
        let dir = format!("copy{number}");
        let (said, seen, _) = watched(&project, &["fetch", "demo/tiny", &dir], way);
        let copied = project.path(&dir).join("config.json").exists();
        assert!(copied, "the private repository was read with the token: {said}");
        assert!(!said.contains(SECRET) && !seen.contains(SECRET), "{said}");
        let (said, ..) = watched(&project, &["fetch", "demo/none", "nothing", "--format", "json"], way);
        assert!(said.contains("404") && !said.contains(SECRET), "{said}");
    }
    let (said, ..) = watched(&project, &["fetch", "demo/tiny", "nothing"], &[("HF_TOKEN", "hf_ secretsecret")]);
    assert!(said.contains("HF_TOKEN") && !said.contains("secretsecret"), "{said}");
    drop(localnet);
    let (said, ..) = watched(&project, &["fetch", "demo/tiny", "nothing"], ways[0]);
    assert!(said.contains("is down or unreachable") && !said.contains(SECRET), "{said}");
    assert_nowhere(&project.path("."));
}

#[test]
fn nothing_real_is_done_unasked() {
    let project = Project::new();
    let ran = project.run(&["publish", "--yes"]);
    assert!(ran.code == 2 && ran.stderr.contains("--execute"), "consent without the deed: {}", ran.stderr);
}
