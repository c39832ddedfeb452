//! Rules of the repository.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::harness::{Project, program, repository};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files that git tracks or would track.
fn sources() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(repository())
        .output()
        .expect("git runs");
    let names = String::from_utf8(output.stdout).expect("UTF-8");
    names.lines().map(|name| (name.to_owned(), read(name))).collect()
}

#[test]
fn heavy_dependencies_stay_behind_their_border() {
    let borders = [
        ("subxt", "deval-chain"),
        ("hf-hub", "deval-hub"),
        ("hf-xet", "deval-hub"),
        ("candle-core", "deval-llama"),
        ("candle-nn", "deval-llama"),
        ("candle-transformers", "deval-llama"),
        ("frame-support", "deval-localnet"),
        ("testcontainers", "deval-container"),
    ];
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    assert!(packages.len() >= 12, "the workspace has all its crates");
    for package in packages {
        let normal = package["dependencies"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|dependency| dependency["kind"].is_null());
        let names: BTreeSet<_> = normal.filter_map(|dependency| dependency["name"].as_str()).collect();
        let name = package["name"].as_str().expect("a name");
        for (heavy, owner) in borders.iter().filter(|_| name != "workspace-hack") {
            assert!(
                !names.contains(heavy) || name == *owner,
                "`{name}` depends on `{heavy}`, which only `{owner}` may"
            );
        }
        let pure = ["deval-report", "deval-manifest", "deval-eval", "deval-examples"].contains(&name);
        assert!(!pure || names.is_disjoint(&["tokio", "reqwest", "axum"].into()), "`{name}` is to stay pure");
    }
}

#[test]
fn files_stay_short_and_lints_are_not_silenced() {
    for (name, text) in sources().iter().filter(|(name, _)| !name.starts_with("crates/workspace-hack/")) {
        assert!(text.lines().count() <= 600, "{name} has over 600 lines");
        let silencer = concat!("#[al", "low(");
        assert!(!text.contains(silencer), "{name}: use #[expect(…, reason = …)]");
    }
}

#[test]
fn cargo_make_knows_every_step_and_no_more() {
    let makefile: toml::Table = read("Makefile.toml").parse().expect("TOML");
    assert_eq!(makefile["config"]["default_to_workspace"].as_bool(), Some(false), "else each member runs the task");
    let tasks = makefile["tasks"].as_table().expect("a table");
    let steps = deval_report::Step::ALL.map(deval_report::Step::name);
    for name in steps.iter().chain(&["status", "plan", "verdict", "report", "demo", "test", "check", "e2e", "release"])
    {
        assert!(tasks.contains_key(*name), "Makefile.toml has no task `{name}`");
    }
    let help = Command::new(program("xtask")).arg("--help").output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    for (name, task) in tasks {
        let Some(arguments) = task.get("args").and_then(|arguments| arguments.as_array()) else {
            assert!(task.get("dependencies").is_some(), "`{name}` does nothing");
            continue;
        };
        let subcommand = arguments[1].as_str().expect("a name");
        assert_eq!(arguments[0].as_str(), Some("xtask"), "`{name}` is one `cargo xtask …`");
        assert!(
            help.contains(&format!("\n  {subcommand} ")),
            "`{name}` calls `{subcommand}`, which is no command:\n{help}"
        );
    }
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let output = Command::new(program("xtask")).arg("schema").output().expect("it runs");
    assert_eq!(
        String::from_utf8(output.stdout).expect("UTF-8"),
        read("ci/deval.schema.json"),
        "run `cargo xtask schema --write`"
    );
}

#[test]
fn the_example_manifest_documents_every_key() {
    let schema: Value = serde_json::from_str(&read("ci/deval.schema.json")).expect("JSON");
    let example = read("deval.toml");
    let parsed = deval_manifest::parse(&example, "deval.toml");
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let keys = |properties: &Value| properties.as_object().expect("properties").keys().cloned().collect::<Vec<_>>();
    for section in schema["$defs"].as_object().expect("definitions").values().filter(|d| d["properties"].is_object()) {
        for key in keys(&section["properties"]) {
            let (value, table) = (format!("{key} = "), format!(".{key}]"));
            let shows = |line: &str| line.trim_start_matches("# ").starts_with(&value) || line.ends_with(&table);
            let written = example.lines().any(shows);
            assert!(written, "deval.toml does not show `{key}`");
        }
    }
}

#[test]
fn the_readme_names_commands_that_exist() {
    let readme = read("README.md");
    let project = Project::new();
    let commands: BTreeSet<_> =
        readme.split("`cargo xtask ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()).collect();
    assert!(commands.len() > 8);
    for command in commands.into_iter().filter(|command| !command.starts_with('<')) {
        let ran = project.run(&[command, "--help"]);
        assert_eq!(ran.code, 0, "`cargo xtask {command}`: {}", ran.stderr);
    }
}
