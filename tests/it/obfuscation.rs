//! Packages whose sources go through PyArmor: the real one, in an environment that the first test makes.

use std::{collections::BTreeMap, fs};

use deval_model::tiny::{self, Kind};
use serde_json::Value;

use crate::{
    clients::python,
    harness::{Project, repository},
};

const OBFUSCATE: &str = "[package]\nobfuscate = true\n";

/// A submission of a tiny model.
fn project(manifest: &str) -> Project {
    let project = Project::new();
    fs::remove_dir_all(project.path("model")).expect("the other tiny model");
    tiny::write(&project.path("model"), Kind::Chain).expect("a tiny model");
    project.manifest(manifest);
    project
}

fn digests(report: &Value) -> BTreeMap<String, String> {
    let files = report["result"]["files"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    files.iter().map(|file| (text(&file["path"]), text(&file["sha256"]))).collect()
}

#[test]
fn an_obfuscated_package_is_proven_and_comes_out_the_same_again() {
    if python().is_none() {
        return;
    }
    let project = project(OBFUSCATE);
    let package = || project.json(&["package"]);
    let first = package();
    assert_eq!(first["diagnostics"], serde_json::json!([]), "{first:#}");
    let obfuscated = &first["result"]["obfuscated"];
    assert_eq!(
        (&obfuscated["pyarmor"], &obfuscated["files"], &obfuscated["kept"]),
        (&"8.5.11".into(), &6.into(), &false.into())
    );
    assert_eq!((&obfuscated["proof"]["answers"], &obfuscated["proof"]["requests"]), (&24.into(), &12.into()));
    assert!(obfuscated["proof"]["distinct"].as_u64() >= Some(6), "{obfuscated}");
    let tree = project.path("target/deval/package");
    let armored = fs::read_to_string(tree.join("model/prompts.py")).expect("staged");
    assert!(armored.starts_with("# Pyarmor 8.5.11 (trial)") && !armored.contains("SYSTEM_PROMPT"));
    for file in ["__init__.py", "pyarmor_runtime.so"] {
        assert!(digests(&first).contains_key(&format!("pyarmor_runtime_000000/{file}")), "{first:#}");
    }

    // Other weights of the same sources: the step runs again, the obfuscated tree is not made again.
    tiny::write(&project.path("model"), Kind::Random { seed: 9 }).expect("a tiny model");
    let second = package();
    assert_eq!(second["result"]["obfuscated"]["kept"], true);
    assert_eq!(second["result"]["listing_digest"], first["result"]["listing_digest"]);

    let forced = project.json(&["package", "--rerun"]);
    assert_eq!(forced["result"]["obfuscated"]["kept"], false);
    assert_ne!(digests(&forced)["model/pipeline.py"], digests(&first)["model/pipeline.py"]);

    let shown = project.run(&["package"]);
    assert!(shown.stdout.contains("6 files by PyArmor 8.5.11"), "{}", shown.stdout);
    assert!(shown.stdout.contains("24 answers equal to the plain pipeline's"), "{}", shown.stdout);
}

/// Answers by its own text, which obfuscation replaces.
const READS_ITSELF: &str = "from transformers import Pipeline\n\n\nclass DeValPipeline(Pipeline):\n\
    \x20   def __init__(self, task, model_dir):\n        self.size = len(open(__file__).read())\n\n\
    \x20   def __call__(self, inputs, tasks, rag_context, query, llm_response):\n\
    \x20       return {'score_completion': 1 / self.size, 'mistakes_completion': []}\n";

#[test]
fn sources_that_answer_otherwise_once_obfuscated_are_not_staged() {
    if python().is_none() {
        return;
    }
    let project = project(OBFUSCATE);
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("a manifest");
    let own = format!("{:?}", repository().join("pipeline/model"));
    project.manifest_text(&manifest.replace(&own, "\"pipeline/model\""));
    fs::create_dir_all(project.path("pipeline/model")).expect("a folder");
    fs::write(project.path("pipeline/model/pipeline.py"), READS_ITSELF).expect("a pipeline");
    let ran = project.run(&["package"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("obfuscate.proof"), "{}", ran.stderr);
    assert!(ran.stderr.contains("answers 24 of 24 requests otherwise"), "{}", ran.stderr);
    assert!(!project.path("target/deval/package").exists());
    let hashed = project.run(&["hash"]);
    assert_eq!(hashed.code, 1, "what needs the package does not run: {}", hashed.stderr);
}

#[test]
fn without_python_obfuscation_is_a_finding() {
    let project = project(OBFUSCATE);
    let output = project.command(&["package"]).env("PATH", project.path("none")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("python.missing"), "{said}");
}

#[test]
fn rules_of_the_model_folder_make_the_package_stale() {
    let project = project("");
    let ran = project.run(&["package"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    fs::write(project.path("model/notes.txt"), "n").expect("a file");
    assert!(digests(&project.json(&["package"])).contains_key("notes.txt"));
    fs::write(project.path("model/.devalignore"), "notes.txt\n").expect("rules");
    let ran = project.run(&["package"]);
    assert!(ran.stderr.contains("package   runs"), "{}", ran.stderr);
    assert!(!digests(&project.json(&["package"])).contains_key("notes.txt"));
    project.manifest(OBFUSCATE);
    let plan = project.run(&["plan"]);
    assert!(plan.stdout.contains("package.obfuscate"), "{}", plan.stdout);
}
