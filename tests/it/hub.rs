//! The local Hub by its real clients, and `inspect` and `fetch` on what they published.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    clients::environment,
    harness::{Project, repository},
    way::Localnet,
};

/// Interpreters with huggingface_hub 0.25.1 (the validator's host), 0.27.1 (the miner's container) and the newest.
fn clients() -> Option<[(&'static str, PathBuf); 3]> {
    let validator = environment("python-validator", "validator")?;
    let container = environment("python", "pipeline")?;
    let newest = environment("python-newest", "newest")?;
    Some([("0.25.1", validator), ("0.27.1", container), ("2.4.0", newest)])
}

/// A script of tests/python; the last line that it prints, as JSON.
fn script(python: &Path, name: &str, arguments: &[&str], folder: &Path) -> Value {
    let output = Command::new(python)
        .arg(repository().join("tests/python").join(name))
        .args(arguments)
        .arg(folder)
        .env("HF_TOKEN", "hf_tests")
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

fn published(hub: &Localnet, python: &Path, repo: &str, folder: &Path) -> Value {
    script(python, "hub_repository.py", &["upload", &hub.hub, repo], folder)
}

/// A small model with a pipeline and a file large enough for two parts.
fn folder(project: &Project) -> PathBuf {
    let folder = project.path("model");
    fs::create_dir_all(folder.join("model")).expect("writable");
    fs::write(folder.join("model/pipeline.py"), "class DeValPipeline: ...\n").expect("writable");
    fs::write(folder.join("README.md"), "---\nlicense: mit\n---\nA model.\n").expect("writable");
    fs::write(folder.join("empty.txt"), "").expect("writable");
    let blocks = (0..200_000_u64).flat_map(|n| Sha256::digest(n.to_le_bytes()));
    fs::write(folder.join("large.bin"), blocks.collect::<Vec<u8>>()).expect("writable");
    folder
}

#[test]
fn every_client_publishes_over_every_transfer_and_every_other_reads_it() {
    let Some(clients) = clients() else { return };
    let project = Project::new();
    let folder = folder(&project);
    for transfer in ["xet", "multipart", "basic"] {
        let hub = Localnet::start_with(&project, &["--hub-transfer", transfer, "--hub-page-size", "4"]);
        for (version, python) in &clients {
            let repo = format!("me/{transfer}-{version}");
            let made = published(&hub, python, &repo, &folder);
            assert_eq!(made["huggingface_hub"], *version);
            for (reader, python) in &clients {
                let seen = script(python, "hub_repository.py", &["check", &hub.hub, &repo], &folder);
                assert_eq!((&seen["sha"], &seen["private"]), (&made["commit"], &json!(true)), "{repo} by {reader}");
                assert_eq!(seen["commits"], json!(["by huggingface_hub", "initial commit"]));
            }
        }
    }
}

#[test]
fn the_pinned_clients_see_what_upstream_asks_for() {
    let Some([validator, container, newest]) = clients() else { return };
    let project = Project::new();
    let folder = folder(&project);
    let hub = Localnet::start_with(&project, &[]);
    published(&hub, &newest.1, "me/model", &folder);
    for (version, python) in [validator, container] {
        let seen = script(&python, "hub_client.py", &[&hub.hub, "me/model"], &project.path(version));
        assert_eq!((&seen["huggingface_hub"], &seen["id"]), (&json!(version), &json!("me/model")));
        assert_eq!(seen["safetensors"], json!(["me/model/model.safetensors"]));
        assert_eq!(seen["safetensors_last_commit"][0], seen["commits"][0][2], "{seen:#}");
        let size = fs::metadata(folder.join("large.bin")).expect("it is there").len();
        assert!(seen["size"].as_u64().is_some_and(|found| found > size));
    }
}

#[test]
fn the_command_lines_of_hugging_face_upload_and_download() {
    let Some([_, (_, container), (_, newest)]) = clients() else { return };
    let project = Project::new();
    let folder = folder(&project);
    let hub = Localnet::start_with(&project, &[]);
    let program = |python: &Path, name: &str, arguments: &[&str]| {
        let output = Command::new(python.with_file_name(name))
            .args(arguments)
            .env("HF_ENDPOINT", &hub.hub)
            .env("HF_HOME", project.path("hf-home"))
            .env("HF_TOKEN", "hf_tests")
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let source = folder.to_str().expect("UTF-8");
    for (python, name, repo) in [(&newest, "hf", "me/new"), (&container, "huggingface-cli", "me/old")] {
        program(python, name, &["upload", repo, source, "."]);
        let copy = project.path(name);
        program(python, name, &["download", repo, "--local-dir", copy.to_str().expect("UTF-8")]);
        for file in ["model.safetensors", "large.bin", "model/pipeline.py", "empty.txt"] {
            assert!(
                fs::read(copy.join(file)).expect("downloaded") == fs::read(folder.join(file)).expect("there"),
                "{file}"
            );
        }
    }
    let info: Value = serde_json::from_str(&program(&newest, "hf", &["models", "info", "me/new"])).expect("JSON");
    assert_eq!((&info["id"], &info["private"]), (&json!("me/new"), &json!(false)));
    assert!(program(&newest, "hf", &["auth", "whoami"]).contains("localnet"));
}

#[test]
fn a_repository_is_inspected_by_its_headers_and_hashed_as_it_streams() {
    let Some([_, _, (_, newest)]) = clients() else { return };
    let project = Project::new();
    let folder = folder(&project);
    let hub = Localnet::start_with(&project, &["--hub-cdn-host", "localhost"]);
    published(&hub, &newest, "me/model", &folder);
    let run = |more: &[&str]| project.json(&[&["inspect", "me/model", "--hub", &hub.hub], more].concat());
    let weights = fs::read(folder.join("model.safetensors")).expect("it is there");
    let header = 8 + u64::from_le_bytes(*weights.first_chunk().expect("it has a header"));

    // Private: nobody without a token sees it, and on the local network there is none for another Hub.
    let hidden = project.json(&["inspect", "me/model", "--hub", &hub.hub]);
    assert_eq!((&hidden["result"], &hidden["diagnostics"][0]["code"]), (&Value::Null, &json!("G10")), "{hidden:#}");
    let settings = project.path("target/deval/localnet/hub/repos/me/model/settings.json");
    let set = |from: &str, to: &str| {
        let text = fs::read_to_string(&settings).expect("it is there");
        assert!(text.contains(from), "{text}");
        fs::write(&settings, text.replace(from, to)).expect("writable");
    };
    set("\"private\": true", "\"private\": false");

    let seen = run(&[])["result"].clone();
    assert_eq!(seen["read"]["headers"], header, "{seen:#}");
    assert_eq!((&seen["read"]["weights"], &seen["hash"]), (&json!(0), &Value::Null));
    assert!(seen["read"]["small_files"].as_u64().is_some_and(|bytes| bytes < 3_000_000), "{}", seen["read"]);
    assert_eq!((&seen["hosts"], &seen["model"]["config"]["model_type"]), (&json!({"localhost": 2}), &json!("llama")));
    let gate = |report: &Value, code: &str| {
        let gates = report["gates"].as_array().expect("gates");
        gates.iter().find(|gate| gate["code"] == code).map_or(Value::Null, |gate| gate["status"].clone())
    };
    let expected =
        [("G10", "pass"), ("G12", "pass"), ("G15", "fail"), ("G23", "warn"), ("G24", "pass"), ("G38", "pass")];
    for (code, status) in expected {
        assert_eq!(gate(&seen, code), status, "{code} of {seen:#}");
    }

    let hashed = run(&["--hash"])["result"].clone();
    assert_eq!(hashed["hash"]["model_hash"], hex::encode(Sha256::digest(&weights)));
    assert_eq!((&hashed["hash"]["verified"], &hashed["read"]["weights"]), (&json!(1), &json!(weights.len())));

    set("\"gated\": false", "\"gated\": \"manual\"");
    let gated = run(&[]);
    assert_eq!((gate(&gated["result"], "G24"), gated["result"]["model"].clone()), (json!("fail"), Value::Null));
    set("\"disabled\": false", "\"disabled\": true");
    assert_eq!(run(&[])["diagnostics"][0]["code"], "G10");
    assert_eq!(project.json(&["inspect", "me/nothing", "--hub", &hub.hub])["diagnostics"][0]["code"], "G10");
    assert_eq!(project.json(&["inspect", "nothing"])["diagnostics"][0]["code"], "G06");
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let Some([_, _, (_, newest)]) = clients() else { return };
    let project = Project::new();
    let folder = folder(&project);
    let blocks = (0..1_000_000_u64).flat_map(|n| Sha256::digest((n << 32).to_le_bytes()));
    fs::write(folder.join("larger.bin"), blocks.collect::<Vec<u8>>()).expect("writable");
    fs::write(
        project.path("faults.json"),
        json!([{"path_contains": "/cdn/", "skip": 3, "times": 99, "action": {"slow": {"bytes": 65536, "every_ms": 50}}}]).to_string(),
    )
    .expect("writable");
    let faults = project.path("faults.json");
    let hub = Localnet::start_with(&project, &["--faults", faults.to_str().expect("UTF-8")]);
    published(&hub, &newest, "me/model", &folder);
    let settings = project.path("target/deval/localnet/hub/repos/me/model/settings.json");
    let text = fs::read_to_string(&settings).expect("it is there").replace("\"private\": true", "\"private\": false");
    fs::write(&settings, text).expect("writable");

    let copy = project.path("copy");
    let target = copy.to_str().expect("UTF-8");
    let mut command = project.command(&["fetch", "me/model", target, "--hub", &hub.hub]);
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let unfinished = copy.join(".deval-fetch");
    let has_parts = || {
        let entries = fs::read_dir(&unfinished).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "parts"))
            .any(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 0))
    };
    while !has_parts() {
        assert!(first.try_wait().expect("it is ours").is_none(), "it ended before it could be killed");
        thread::sleep(Duration::from_millis(5));
    }
    first.kill().and_then(|()| first.wait()).expect("it is killed");
    drop(hub);

    let hub = Localnet::start_with(&project, &[]);
    let again = project.json(&["fetch", "me/model", target, "--hub", &hub.hub])["result"].clone();
    let number = |name: &str| again[name].as_u64().expect("a number");
    assert!(number("resumed") + number("kept") > 0 && number("damaged") == 0, "{again:#}");
    let total: u64 = again["files"].as_array().expect("files").iter().filter_map(|file| file["bytes"].as_u64()).sum();
    assert_eq!(number("resumed") + number("kept") + number("received"), total);
    for file in ["larger.bin", "large.bin", "model.safetensors"] {
        assert!(
            fs::read(copy.join(file)).expect("downloaded") == fs::read(folder.join(file)).expect("there"),
            "{file}"
        );
    }
    assert!(!unfinished.exists());
}

/// Damages a model folder.
type Spoil<'a> = &'a dyn Fn(&Path);

/// A repository that everybody may read, of a model that was changed.
fn spoilt(project: &Project, hub: &Localnet, python: &Path, name: &str, spoil: Spoil<'_>) -> String {
    let folder = project.path(name);
    let status = Command::new("cp").arg("-r").arg(project.path("model")).arg(&folder).status().expect("cp runs");
    assert!(status.success());
    spoil(&folder);
    let repo = format!("me/{name}");
    published(hub, python, &repo, &folder);
    let settings = project.path("target/deval/localnet/hub/repos").join(&repo).join("settings.json");
    let text = fs::read_to_string(&settings).expect("it is there").replace("\"private\": true", "\"private\": false");
    fs::write(&settings, text).expect("writable");
    repo
}

#[test]
fn what_is_wrong_in_a_repository_is_told_by_its_headers() {
    let Some([_, _, (_, newest)]) = clients() else { return };
    let project = Project::new();
    let hub = Localnet::start_with(&project, &[]);
    let weights = fs::read(project.path("model/model.safetensors")).expect("it is there");
    let write = |path: PathBuf, bytes: &[u8]| fs::write(path, bytes).expect("writable");
    let index = json!({"metadata": {}, "weight_map": {"a": "model-00002-of-00002.safetensors"}}).to_string();
    let no_llama = |model: &Path| {
        let config = fs::read_to_string(model.join("config.json")).expect("it is there");
        write(model.join("config.json"), config.replace("\"llama\"", "\"gpt2\"").as_bytes());
    };
    let one_shard = |model: &Path| {
        fs::rename(model.join("model.safetensors"), model.join("model-00001-of-00002.safetensors")).expect("writable");
        write(model.join("model.safetensors.index.json"), index.as_bytes());
    };
    let folder = |model: &Path| {
        fs::create_dir(model.join("old.safetensors")).expect("writable");
        write(model.join("old.safetensors/notes.txt"), b"old");
    };
    let cases: [(&str, Spoil<'_>, &str, &str); 7] = [
        ("gpt2", &no_llama, "model.architecture", "takes LLaMA models only"),
        ("cut", &|model| write(model.join("model.safetensors"), &weights[..weights.len() - 9]), "G38", "9 B of its"),
        ("header", &|model| write(model.join("model.safetensors"), &[255; 64]), "G38", "longer than loaders accept"),
        ("empty", &|model| write(model.join("model.safetensors"), b""), "G38", "too short for a safetensors header"),
        ("shard", &one_shard, "G38", "names `model-00002-of-00002.safetensors`, which is not there"),
        ("folder", &folder, "G27", "not a file"),
        ("owner", &|_| (), "G31", "nobody owns the model"),
    ];
    for (name, spoil, code, said) in cases {
        let repo = spoilt(&project, &hub, &newest, name, spoil);
        let report = project.json(&["inspect", &repo, "--hub", &hub.hub]);
        let told = report["diagnostics"].as_array().expect("findings").iter().any(|finding| {
            finding["code"] == code && finding["message"].as_str().is_some_and(|message| message.contains(said))
        });
        assert!(told, "{name}: {report:#}");
        assert_eq!(report["result"]["read"]["weights"], 0, "{name}");
        let gates = report["result"]["gates"].as_array().expect("gates");
        let gate = |code: &str| gates.iter().find(|gate| gate["code"] == code).expect("it is told");
        assert_eq!(gate("G30")["status"], "unknown", "no owner is told of where there is no coldkey.txt");
        if ["cut", "header", "empty"].contains(&name) {
            assert_eq!(gate("G13")["detail"], "0 sound weight file(s) at the root");
        }
    }

    // A validator has no hash of it, so none is computed.
    let report = project.json(&["inspect", "me/folder", "--hash", "--hub", &hub.hub]);
    assert_eq!((&report["result"]["hash"], &report["result"]["read"]["weights"]), (&Value::Null, &json!(0)));
    let told =
        report["diagnostics"].as_array().expect("findings").iter().any(|finding| finding["code"] == "inspect.hash");
    assert!(told, "{report:#}");

    // Renamed: the Hub redirects, and the validator's digest of the name would be another.
    let faults = json!([{"path_contains": "/api/models/me/owner", "times": 9,
        "action": {"status": {"code": 307, "headers": {"Location": "/api/models/me/renamed"}, "message": "moved"}}}]);
    fs::write(project.path("faults.json"), faults.to_string()).expect("writable");
    drop(hub);
    let faults = project.path("faults.json");
    let hub = Localnet::start_with(&project, &["--faults", faults.to_str().expect("UTF-8")]);
    let report = project.json(&["inspect", "me/owner", "--hub", &hub.hub]);
    let found = report["diagnostics"][0]["found"].as_str().unwrap_or_default();
    assert!(found.contains("renamed") && found.contains("/api/models/me/renamed"), "{report:#}");
}
