//! A submission in a folder of its own, and the programs to run on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use deval_chain::Wallet;
use deval_llama::testing::{TinyLlama, write_tiny_llama};
use serde_json::Value;
use tempfile::TempDir;

/// Root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the workspace")
}

/// The built program; the programs are built once per test run.
pub(crate) fn program(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        // Build scripts watch what the outer cargo set; with it, this one would compile half of the workspace again.
        let outer = std::env::vars_os().map(|(name, _)| name);
        let outer = outer.filter(|name| {
            name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"))
        });
        let mut cargo = Command::new("cargo");
        outer.for_each(|name| {
            cargo.env_remove(name);
        });
        let status = cargo
            .args(["build", "--quiet", "--package", "xtask", "--package", "deval-localnet", "--package", "deval-axon"])
            .current_dir(repository())
            .status()
            .expect("cargo runs");
        assert!(status.success());
        let here = std::env::current_exe().expect("a test has a path");
        here.ancestors().nth(2).expect("target/debug/deps/it").to_owned()
    });
    dir.join(name)
}

/// Says why a test does nothing; fails instead when `DEVAL_TEST_REQUIRE` names what it needs.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
pub(crate) fn skip(needs: &str, why: &str) {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == needs), "`{needs}` is required: {why}");
    eprintln!("skipped, needs {needs}: {why}");
}

/// A folder with a manifest, a tiny model, a wallet, and the repository's own pipeline.
pub(crate) struct Project {
    dir: TempDir,
}

/// What a run printed.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Project {
    /// A valid submission to the local network.
    pub(crate) fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        write_tiny_llama(&project.path("model"), &TinyLlama::default()).expect("a tiny model");
        Wallet::create_throwaway(&project.path("wallets"), "demo", "default").expect("a wallet");
        project.manifest("");
        project
    }

    /// The same in another folder, hard links among its files included.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        let from = self.path(".");
        let status = Command::new("cp").arg("-a").arg(from).arg(copy.dir.path()).status().expect("cp runs");
        assert!(status.success());
        copy
    }

    /// Writes the manifest with further lines at its end.
    pub(crate) fn manifest(&self, more: &str) {
        self.manifest_text(&format!(
            "schema = 1\n\n[submission]\nmodel_url = \"demo/tiny\"\nmodel_dir = \"model\"\npipeline_dir = {:?}\n\n\
             [wallet]\npath = \"wallets\"\nname = \"demo\"\n\n{more}",
            repository().join("pipeline/model")
        ));
    }

    pub(crate) fn manifest_text(&self, text: &str) {
        fs::write(self.path("deval.toml"), text).expect("a writable folder");
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A command on this project, ready to be changed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("xtask"));
        command.args(arguments).current_dir(self.dir.path()).env_remove("HF_TOKEN").env_remove("HUGGINGFACE_TOKEN");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("the program runs");
        let text = |bytes| self.redact(&String::from_utf8(bytes).expect("the program prints UTF-8"));
        Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The report of a step as JSON; panics with what was said when there is none.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ran.stdout, ran.stderr))
    }

    /// Replaces what differs between machines and runs.
    fn redact(&self, text: &str) -> String {
        let root = self.dir.path().canonicalize().expect("it exists");
        text.replace(root.to_str().expect("UTF-8"), "[project]")
            .replace(repository().to_str().expect("UTF-8"), "[repository]")
    }
}
