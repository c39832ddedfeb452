//! What the tests of several modules need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::armor::{Armor, Sources};

/// Root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/deval-python lies in the workspace")
}

/// Says why a test does nothing; fails instead when `DEVAL_TEST_REQUIRE` names `python`.
#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn skip(why: &str) {
    let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == "python"), "`python` is required: {why}");
    eprintln!("skipped, needs python: {why}");
}

/// The Python with torch and transformers that `ci/python-env.sh target/deval/python` makes.
pub(crate) fn torch_python() -> Option<PathBuf> {
    let python = repository().join("target/deval/python/bin/python");
    let there = python.exists();
    if !there {
        skip("no environment in target/deval/python; make it with `ci/python-env.sh target/deval/python`");
    }
    there.then_some(python)
}

/// The real PyArmor; a machine that cannot have it skips.
pub(crate) fn managed_armor() -> Option<Armor> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Armor::ensure(&repository().join("target/deval/pyarmor"), &path).map_err(|error| skip(&format!("{error:?}"))).ok()
}

/// A folder with a pipeline below `pipeline/model`.
pub(crate) struct Folder {
    dir: TempDir,
    files: BTreeMap<String, PathBuf>,
}

impl Folder {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Self { dir, files: BTreeMap::new() };
        for (name, text) in files {
            let path = folder.path("pipeline/model").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            folder.files.insert((*name).to_owned(), path);
        }
        folder
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources { files: &self.files, folder: "pipeline/model" }
    }
}
