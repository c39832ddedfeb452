//! The 51 gates as a user meets them: `validate`, `verdict`, `explain`, and the files that a folder should not hold.

use std::{
    collections::BTreeSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, os::unix::fs::symlink, process::Command,
};

use serde_json::{Value, json};

use crate::{
    bad_input::evaluation,
    harness::{Project, Ran},
};

/// The verdict on one gate.
fn gate(verdict: &Value, code: &str) -> Value {
    let gates = verdict["result"]["gates"].as_array().expect("all gates");
    gates.iter().find(|gate| gate["code"] == code).expect("a gate").clone()
}

fn status(verdict: &Value, code: &str) -> String {
    gate(verdict, code)["status"].as_str().expect("a status").to_owned()
}

/// The manifest for a real network.
fn on(project: &Project, network: &str) {
    project.manifest("");
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    project.manifest_text(&text.replace("[submission]\n", &format!("[submission]\nnetwork = {network:?}\n")));
}

fn code(ran: &Ran, expected: i32) {
    assert_eq!(ran.code, expected, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn before_any_step_every_gate_is_unknown_and_says_what_would_decide_it() {
    let project = Project::new();
    let verdict = project.json(&["verdict"]);
    let gates = verdict["result"]["gates"].as_array().expect("all gates");
    let codes: Vec<_> = gates.iter().map(|gate| gate["code"].as_str().expect("a code").to_owned()).collect();
    assert_eq!(codes, (1..=51).map(|number| format!("G{number:02}")).collect::<Vec<_>>(), "in the validator's order");
    for gate in gates {
        assert_eq!(gate["status"], "unknown", "{gate}");
        assert!(gate["next"].as_str().is_some_and(|next| next.ends_with('.')), "{gate}");
    }
    let distinct: BTreeSet<_> = gates.iter().map(|gate| gate["next"].as_str()).collect();
    assert!(distinct.len() > 35, "{} different ways to decide", distinct.len());
    code(&project.run(&["verdict"]), 0);
}

#[test]
fn what_fails_on_a_real_network_is_a_warning_on_the_local_one() {
    let project = Project::new();
    code(&project.run(&["validate"]), 0);
    let local = project.json(&["verdict"]);
    assert_eq!(status(&local, "G15"), "warn");
    assert_eq!(
        (status(&local, "G06"), status(&local, "G35"), status(&local, "G38")),
        ("pass".into(), "pass".into(), "pass".into())
    );
    for network in ["test", "finney"] {
        on(&project, network);
        code(&project.run(&["validate"]), 1);
        let ran = project.run(&["verdict"]);
        code(&ran, 1);
        assert!(ran.stdout.contains("G15") && ran.stderr.contains("error[G15]"), "{}\n{}", ran.stdout, ran.stderr);
        let real = project.json(&["verdict"]);
        let size = gate(&real, "G15");
        assert_eq!((size["status"].as_str(), size["distance"]["unit"].as_str()), (Some("fail"), Some("GB")));
        assert!(size["distance"]["value"].as_f64().expect("a number") < -11.9, "{size}");
        assert!(size["margin"].as_str().expect("words").contains("too small"), "{size}");
    }
    let room = gate(&local, "G19");
    assert_eq!(room["distance"], json!({"value": 23.0, "unit": "bytes"}));
    let hash = gate(&local, "G26");
    assert_eq!((hash["distance"]["unit"].as_str(), hash["estimate"].as_bool()), (Some("seconds"), Some(true)));
}

#[test]
fn annotations_name_each_gate_that_stands_ill() {
    let project = Project::new();
    on(&project, "finney");
    fs::write(project.path("model/coldkey.txt"), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n")
        .expect("writable");
    code(&project.run(&["validate"]), 1);
    let ran = project.run(&["verdict", "--format", "github"]);
    code(&ran, 1);
    for line in ["::error title=G15::", "::error title=G30,file=model/coldkey.txt::coldkey.txt ends with a newline"] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.starts_with("::")), "{}", ran.stdout);
}

#[test]
fn findings_that_no_gate_speaks_of_are_in_the_verdict_too() {
    let project = Project::new();
    fs::write(project.path("model/notes.md"), format!("token hf_{}\n", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3h"))
        .expect("writable");
    code(&project.run(&["validate"]), 1);
    let ran = project.run(&["verdict"]);
    code(&ran, 1);
    assert!(ran.stdout.contains("beyond the gates") && ran.stderr.contains("error[package.secret]"), "{}", ran.stderr);
    let packaged = project.run(&["package"]);
    code(&packaged, 1);
    assert!(!project.path("target/deval/package").exists(), "a secret blocks the package");
}

#[test]
fn a_report_that_no_longer_stands_decides_nothing() {
    let project = Project::new();
    code(&project.run(&["validate"]), 0);
    assert_eq!(status(&project.json(&["verdict"]), "G30"), "pass");
    fs::write(project.path("model/coldkey.txt"), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n")
        .expect("writable");
    let verdict = project.json(&["verdict"]);
    assert_eq!(status(&verdict, "G30"), "unknown");
    assert_eq!(verdict["result"]["stale"], json!(["validate"]));
    let ran = project.run(&["verdict"]);
    assert!(
        ran.stderr.contains("note[verdict.outdated]") && ran.stderr.contains("`coldkey.txt` changed"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_estimate_warns_or_stays_unknown_and_the_container_overrides_it() {
    let project = Project::new();
    project.manifest(&evaluation());
    code(&project.run(&["evaluate"]), 0);
    let verdict = project.json(&["verdict"]);
    for code in ["G40", "G41", "G42", "G43", "G48", "G51"] {
        let gate = gate(&verdict, code);
        assert!(gate["detail"].as_str().expect("text").starts_with("estimate: "), "{gate}");
        assert!(matches!(gate["status"].as_str(), Some("warn" | "unknown")) && gate["estimate"] == true, "{gate}");
    }
    assert!(
        gate(&verdict, "G40")["distance"].is_null(),
        "what one question takes is not seen where many are answered together"
    );
    assert_eq!(status(&verdict, "G45"), "unknown", "only relevancy was asked");

    let stored = fs::read_to_string(project.path("target/deval/evaluate.json")).expect("a report");
    let mut report: Value = serde_json::from_str(&stored).expect("JSON");
    report["result"] = json!({"gates": [
        {"code": "G32", "status": "pass", "detail": "12.1 GiB", "distance": {"value": 7.9, "unit": "GiB"}},
        {"code": "G43", "status": "fail", "detail": "3 answers without a score"},
    ]});
    fs::create_dir_all(project.path("target/deval/evaluations")).expect("writable");
    let path = project.path("target/deval/evaluations/container.json");
    fs::write(&path, report.to_string()).expect("writable");
    let verdict = project.json(&["verdict"]);
    assert_eq!((status(&verdict, "G32"), status(&verdict, "G43")), ("pass".into(), "fail".into()));
    code(&project.run(&["verdict"]), 1);

    report["inputs"]["need:package"] = json!("another package");
    fs::write(&path, report.to_string()).expect("writable");
    assert_eq!(status(&project.json(&["verdict"]), "G32"), "unknown", "it was another package");
}

#[test]
fn every_gate_is_explained_in_full() {
    let project = Project::new();
    for number in 1..=51 {
        let ran = project.run(&["explain", &format!("g{number:02}")]);
        code(&ran, 0);
        for label in ["checks    ", "why       ", "fix       ", "failing   ", "decides   ", "upstream  "] {
            assert!(ran.stdout.contains(&format!("\n{label}")), "G{number:02}: {}", ran.stdout);
        }
        assert!(ran.stdout.contains("finney "), "{}", ran.stdout);
    }
    code(&project.run(&["explain", "G52"]), 2);
    let report = project.json(&["explain", "G30"]);
    assert_eq!((&report["result"]["code"], &report["result"]["failing"]["finney"]), (&json!("G30"), &json!("fail")));
}

#[test]
fn a_chat_template_is_rendered_and_not_only_there() {
    let project = Project::new();
    let path = project.path("model/tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("JSON");
    settings["chat_template"] =
        json!("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}");
    fs::write(&path, settings.to_string()).expect("writable");
    let ran = project.run(&["validate"]);
    code(&ran, 1);
    assert!(
        ran.stderr.contains("error[model.chat-template]") && ran.stderr.contains("no system role"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("at       model/tokenizer_config.json"), "{}", ran.stderr);
    assert_eq!(status(&project.json(&["verdict"]), "G41"), "fail");
}

#[test]
fn folders_that_hold_anything_but_files_are_findings_and_never_hang() {
    let project = Project::new();
    let fifo = |name: &str| {
        fs::remove_file(project.path(name)).ok();
        assert!(Command::new("mkfifo").arg(project.path(name)).status().expect("coreutils").success());
    };
    fifo("model/config.json");
    fifo("model/tokenizer_config.json");
    fifo("model/pipe.safetensors");
    fifo("model/notes.txt");
    fs::create_dir(project.path("model/x.safetensors")).expect("writable");
    fs::create_dir(project.path("model/model.safetensors.index.json")).expect("writable");
    symlink("nowhere", project.path("model/merges.txt")).expect("writable");
    symlink("/dev/zero", project.path("model/coldkey.txt")).expect("writable");
    let ran = project.run(&["validate"]);
    code(&ran, 1);
    for text in [
        "config.json is a pipe, a socket or a device",
        "tokenizer_config.json is a pipe, a socket or a device",
        "coldkey.txt is a pipe, a socket or a device",
        "model.safetensors.index.json is a folder",
        "at       model/x.safetensors",
        "at       model/pipe.safetensors",
        "at       model/merges.txt",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn large_and_deep_headers_and_indices_are_findings() {
    let project = Project::new();
    let header = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
    let mut hundred = b"{".to_vec();
    hundred.resize(99_999_999, b' ');
    hundred.push(b'}');
    for (bytes, words) in [
        (header(&hundred), "is missing"),
        (header(b"{\"a\": [[[[[["), "the header is not valid"),
        (header(&[&b"{\"a\": "[..], &b"[".repeat(500_000)].concat()), "the header is not valid"),
    ] {
        fs::write(project.path("model/model.safetensors"), bytes).expect("writable");
        let ran = project.run(&["validate"]);
        code(&ran, 1);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let index = project.path("model/model.safetensors.index.json");
    fs::File::create(&index).and_then(|file| file.set_len(1 << 36)).expect("sparse files");
    let ran = project.run(&["validate"]);
    code(&ran, 1);
    assert!(
        ran.stderr.contains("model.safetensors.index.json is too large to be what its name says"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_project_in_a_folder_whose_name_is_not_utf8_works() {
    let project = Project::new();
    let odd = project.path("").join(OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&odd).expect("writable");
    for name in ["model", "wallets", "deval.toml"] {
        fs::rename(project.path(name), odd.join(name)).expect("writable");
    }
    let output = project.command(&["validate"]).current_dir(&odd).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    fs::write(odd.join("model").join(OsStr::from_bytes(b"\xfe.json")), "{}").expect("writable");
    let output = project.command(&["validate"]).current_dir(&odd).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error[model.name]") && text.contains("at       model/\u{fffd}.json"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_names_itself() {
    let project = Project::new();
    // Reading the memory of a process from its beginning fails for everyone, root included.
    fs::remove_file(project.path("model/config.json")).expect("it was there");
    symlink("/proc/self/mem", project.path("model/config.json")).expect("writable");
    let ran = project.run(&["validate"]);
    code(&ran, 2);
    assert!(ran.stderr.contains("config.json") && ran.stderr.contains("cannot read"), "{}", ran.stderr);
}
