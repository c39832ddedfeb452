//! What is said of the weights.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use deval_llama::testing::{TinyLlama, write_tiny_llama};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{bad_input::evaluation, harness::Project};

#[test]
fn the_hash_is_explained_byte_by_byte_and_read_again_when_asked() {
    let project = Project::new();
    // Weights that were just written are not trusted to stay, and not cached.
    let weights = fs::File::options().write(true).open(project.path("model/model.safetensors")).expect("it is there");
    weights.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("it is ours");
    let first = project.run(&["hash"]);
    assert!(first.code == 0 && first.stderr.contains("of weights in"), "{}", first.stderr);
    let ran = project.run(&["hash", "--explain"]);
    assert!(!ran.stderr.contains("of weights in"), "nothing is read twice: {}", ran.stderr);
    assert!(ran.stdout.contains("length of the header") && ran.stdout.contains("config.json"), "{}", ran.stdout);
    let report = project.json(&["hash", "--explain"]);
    assert_eq!(report["step"], "hash");
    let bytes = fs::read(project.path("model/model.safetensors")).expect("it is there");
    let mut stream = Sha256::new();
    for piece in report["result"]["explanation"]["pieces"].as_array().expect("pieces") {
        let number = |name: &str| piece[name].as_u64().expect("a number") as usize;
        stream.update(&bytes[number("offset")..number("offset") + number("bytes")]);
    }
    assert_eq!(report["result"]["model_hash"], hex::encode(stream.finalize()), "the pieces make the hash");
    assert!(project.json(&["hash"])["result"].get("explanation").is_none());

    // A cache that lies: only reading again shows it.
    let cache = project.path("target/deval/cache/weights.json");
    let known = fs::read_to_string(&cache).expect("the first run wrote it");
    let hash = report["result"]["model_hash"].as_str().expect("a hash");
    fs::write(&cache, known.replace(hash, &"0".repeat(64))).expect("writable");
    assert_eq!(project.json(&["hash"])["result"]["model_hash"], "0".repeat(64));
    let again = project.run(&["hash", "--no-cache"]);
    assert!(again.stdout.contains(hash) && again.stderr.contains("of weights in"), "{}{}", again.stdout, again.stderr);
}

/// Exit code and report of a comparison.
fn compared(project: &Project, against: &str) -> (i32, Value) {
    let ran = project.run(&["lineage", "--against", against, "--format", "json"]);
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    (ran.code, report)
}

#[test]
fn a_repository_is_a_base_of_which_only_headers_and_samples_are_read() {
    let project = Project::new();
    project.manifest(&evaluation());
    assert_eq!(project.run(&["publish", "--execute"]).code, 0);
    let bytes = fs::read(project.path("model/model.safetensors")).expect("it is there");
    let header = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) + 8;

    let (code, report) = compared(&project, "demo/tiny");
    assert_eq!((code, &report["result"]["relation"]), (1, &json!("identical")), "{report:#}");
    assert_eq!(report["diagnostics"][0]["code"], "lineage.base-model");
    assert_eq!(report["result"]["base"]["bytes_read"], header, "no weight byte of a file that the Hub has too");
    assert!(report["result"]["base"]["revision"].is_string());

    write_tiny_llama(&project.path("model"), &TinyLlama { seed: 1, ..TinyLlama::default() }).expect("another model");
    let (code, report) = compared(&project, "demo/tiny");
    assert_eq!((code, &report["result"]["relation"]), (0, &json!("unrelated")));
    let read = report["result"]["base"]["bytes_read"].as_u64().expect("a number");
    assert!(read > header, "{read}");
}

#[test]
fn a_base_that_is_not_there_is_told() {
    let project = Project::new();
    let ran = project.run(&["lineage", "--against", "no/such/thing"]);
    assert!(ran.code == 2 && ran.stderr.contains("neither a folder nor the name of a repository"), "{}", ran.stderr);
    let ran = project.run(&["lineage", "--against", "demo/none"]);
    assert!(ran.code == 2 && ran.stderr.contains("404"), "{}", ran.stderr);
}
