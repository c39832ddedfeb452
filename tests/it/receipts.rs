//! Receipts of something else: `commit` and `serve` go on only from what was done for this submission as it stands now.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{Project, Ran},
    serving::committed,
    way::registered,
};

/// Changes the stored report of a step.
fn edit(project: &Project, step: &str, change: impl FnOnce(&mut Value)) {
    let path = project.path(&format!("target/deval/{step}.json"));
    let mut report = serde_json::from_slice(&fs::read(&path).expect("it was stored")).expect("JSON");
    change(&mut report);
    fs::write(path, report.to_string()).expect("writable");
}

fn replace_in_manifest(project: &Project, old: &str, new: &str) {
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    assert!(text.contains(old), "{text}");
    project.manifest_text(&text.replace(old, new));
}

/// It ends with this finding, which names the place, what was found and expected, and what to do; nothing else is done.
fn refuses(project: &Project, step: &str, code: &str, wanted: &[&str]) {
    let journals = || ["hub/journal.jsonl", "chain"].map(|name| listing(project, name));
    let before = journals();
    for arguments in [vec![step], vec![step, "--execute"]] {
        let Ran { code: exit, stderr, .. } = project.run(&arguments);
        assert!(exit == 1 && stderr.contains(&format!("error[{code}]")), "{arguments:?}: {exit}\n{stderr}");
        for words in wanted.iter().chain(&["at       ", "found    ", "expected ", "help     "]) {
            assert!(stderr.contains(words), "{arguments:?}: {words} is missing\n{stderr}");
        }
    }
    assert_eq!(journals(), before, "{step}");
}

/// Names and sizes of what the local Hub and chain keep.
fn listing(project: &Project, name: &str) -> Vec<(String, u64)> {
    let path = project.path("target/deval/localnet").join(name);
    let size = |path: &std::path::Path| fs::metadata(path).expect("it is there").len();
    let Ok(entries) = fs::read_dir(&path) else { return vec![(name.to_owned(), size(&path))] };
    let mut all: Vec<_> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), size(&entry.path())))
        .collect();
    all.sort();
    all
}

fn published() -> Project {
    let project = registered();
    let ran = project.run(&["publish", "--execute"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    project
}

#[test]
fn commit_takes_only_the_receipt_of_this_submission() {
    let project = published();
    let old = "commit.publish-is-old";
    let stored = project.path("target/deval/publish.json");
    let (receipt, manifest) = (fs::read(&stored).expect("stored"), project.path("deval.toml"));
    let text = fs::read(&manifest).expect("it is there");
    let whole = || {
        fs::write(&stored, &receipt).expect("writable");
        fs::write(&manifest, &text).expect("writable");
    };
    edit(&project, "publish", |report| report["result"]["network"] = json!("test"));
    refuses(&project, "commit", old, &["another network", "test", "local"]);
    whole();
    replace_in_manifest(&project, "demo/tiny", "demo/other");
    refuses(&project, "commit", old, &["another repository", "demo/tiny", "demo/other", "deval.toml:4"]);
    whole();
    edit(&project, "publish", |report| report["result"]["model_hash"] = json!("ab".repeat(32)));
    refuses(&project, "commit", old, &["another model hash", &"ab".repeat(32), "deval.toml:5"]);
    whole();
    for step in ["validate", "hash"] {
        edit(&project, "publish", |report| report["inputs"][format!("need:{step}")] = json!("cd".repeat(32)));
        let another = format!("another report of `{step}`");
        refuses(&project, "commit", old, &[&another, &"cd".repeat(32), "target/deval/publish.json"]);
        whole();
    }
    edit(&project, "publish", |report| report["result"] = Value::Null);
    let ran = project.run(&["commit", "--execute"]);
    assert!(ran.code == 2 && ran.stderr.contains("run `cargo xtask publish --execute`"), "{}", ran.stderr);
    whole();
    fs::write(project.path("model/NOTES.md"), "trained longer").expect("writable");
    refuses(&project, "commit", old, &["another listing of files"]);
    fs::remove_file(project.path("model/NOTES.md")).expect("it is there");
    // As it was published, it is committed.
    assert_eq!(project.run(&["commit", "--execute"]).code, 0);
}

#[test]
fn commit_refuses_what_was_published_before_the_weights_changed() {
    let project = published();
    let weights = project.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("it is there");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("writable");
    refuses(&project, "commit", "commit.publish-is-old", &["another model hash", "another listing of files"]);
}

#[test]
fn serve_takes_only_the_receipt_of_this_submission() {
    let project = committed();
    let stored = project.path("target/deval/commit.json");
    let receipt = fs::read(&stored).expect("stored");
    let whole = || fs::write(&stored, &receipt).expect("writable");
    edit(&project, "commit", |report| report["result"]["network"] = json!("test"));
    refuses(&project, "serve", "serve.other-network", &["another network", "test", "local"]);
    whole();
    edit(&project, "commit", |report| report["result"]["model_hash"] = json!("ab".repeat(32)));
    refuses(&project, "serve", "serve.receipt", &["two model hashes", &"ab".repeat(32), "target/deval/commit.json"]);
    whole();
    edit(&project, "commit", |report| report["result"]["payload"] = json!("[]"));
    refuses(&project, "serve", "serve.receipt", &["two model hashes", "[]"]);
    whole();
    replace_in_manifest(&project, "demo/tiny", "demo/other");
    refuses(&project, "serve", "serve.other-model", &["demo/tiny", "demo/other", "deval.toml:4"]);
    replace_in_manifest(&project, "demo/other", "demo/tiny");
    deval_chain::Wallet::create_throwaway(&project.path("wallets"), "second", "default").expect("a wallet");
    replace_in_manifest(&project, "name = \"demo\"", "name = \"second\"");
    refuses(&project, "serve", "serve.other-hotkey", &["another hotkey"]);
    replace_in_manifest(&project, "name = \"second\"", "name = \"demo\"");
    assert_eq!(project.json(&["serve"])["diagnostics"], json!([]));
}

#[test]
fn serve_goes_on_with_what_was_committed_and_tells_of_other_weights() {
    let project = committed();
    let weights = project.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).expect("it is there");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("writable");
    assert_eq!(project.run(&["hash"]).code, 0);
    let plan = project.json(&["serve"]);
    assert_eq!(plan["diagnostics"][0]["code"], "serve.other-weights", "{plan:#}");
    assert_eq!(
        (&plan["diagnostics"][0]["severity"], &plan["result"]["model_url"]),
        (&json!("warning"), &json!("demo/tiny"))
    );
}
