//! Real clients against the stand-ins, and the Python pipeline as a validator loads it.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    harness::{repository, skip},
    way::{Localnet, registered},
};

/// The environment that `ci/python-env.sh target/deval/python` makes.
pub(crate) fn python() -> Option<PathBuf> {
    environment("python", "pipeline")
}

/// The Python of an environment that `ci/python-env.sh` makes.
pub(crate) fn environment(dir: &str, kind: &str) -> Option<PathBuf> {
    let dir = format!("target/deval/{dir}");
    let python = repository().join(&dir).join("bin/python");
    if python.exists() {
        return Some(python);
    }
    skip("python", &format!("no environment in {dir}; make it with `ci/python-env.sh {dir} {kind}`"));
    None
}

#[test]
fn the_validators_hub_client_downloads_what_was_published_byte_for_byte() {
    let Some(python) = python() else { return };
    let project = registered();
    for step in ["publish", "commit"] {
        let ran = project.run(&[step, "--execute"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let localnet = Localnet::start(&project);
    let snapshot = project.path("snapshot");
    let output = Command::new(python)
        .arg(repository().join("tests/python/hub_client.py"))
        .args([&localnet.hub, "demo/tiny"])
        .arg(&snapshot)
        .env("HF_HOME", project.path("hf-home"))
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(seen["huggingface_hub"], "0.27.1", "{seen:#}");
    let package = project.json(&["package"]);
    let files = package["result"]["files"].as_array().expect("files").clone();
    assert!(files.len() >= 8);
    for path in files.iter().map(|file| file["path"].as_str().expect("a path")) {
        let staged = fs::read(project.path("target/deval/package").join(path)).expect("staged");
        assert!(fs::read(snapshot.join(path)).expect("downloaded") == staged, "{path} differs");
    }
}

#[test]
fn the_python_pipeline_keeps_its_contract() {
    let Some(python) = python() else { return };
    let demo = repository().join("target/deval/demo/model");
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/python"])
        .current_dir(repository())
        .env("OMP_NUM_THREADS", "2");
    if demo.join("model.safetensors").exists() {
        command.env("DEVAL_DEMO_MODEL", demo);
    }
    let output = command.output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(" passed"), "{text}");
}
