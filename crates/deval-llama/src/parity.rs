//! The same numbers, texts and tokens as transformers gives, in the environment that `ci/python-env.sh` makes.

mod conversations;
mod generation;
mod lines;
mod numbers;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::real_model::required;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// `None` with a message when the environment is not there; a panic when `DEVAL_TEST_REQUIRE` names `python`.
pub(crate) fn python() -> Option<PathBuf> {
    let python = repository().join("target/deval/python/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(!required("python"), "DEVAL_TEST_REQUIRE names python, but {} is not there", python.display());
    println!("skipped: no environment in target/deval/python; make it with `ci/python-env.sh target/deval/python`");
    None
}

/// Runs a script of `tests/python` with two files as its first arguments: one with `input`, one that it writes.
pub(crate) fn run_script(python: &Path, script: &str, input: &[u8], arguments: &[&Path]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (request, result) = (dir.path().join("in.json"), dir.path().join("out.json"));
    fs::write(&request, input).unwrap();
    let ran = Command::new(python)
        .arg(repository().join("tests/python").join(script))
        .args([&request, &result])
        .args(arguments)
        .env("OMP_NUM_THREADS", "2")
        .env("OMP_WAIT_POLICY", "PASSIVE")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    fs::read(result).unwrap()
}

/// What transformers gives for some jobs of `tests/python/llama.py`.
fn reference(python: &Path, tiny: Option<&Path>, jobs: &[Value]) -> (Vec<String>, Vec<Value>) {
    let request = json!({"tiny": tiny, "jobs": jobs});
    let result = run_script(python, "llama.py", request.to_string().as_bytes(), &[]);
    let mut result: Value = serde_json::from_slice(&result).unwrap();
    let names = serde_json::from_value(result["names"].take()).unwrap();
    (names, serde_json::from_value(result["results"].take()).unwrap())
}
