//! `cargo xtask oracle`: replays vectors that the upstream code produced.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use deval_eval::oracle;

use crate::{Verdict, ui::Ui};

pub(crate) fn run(paths: &[PathBuf], ui: Ui) -> anyhow::Result<Verdict> {
    let files: Vec<_> = paths.iter().map(|path| vectors(path)).collect::<anyhow::Result<Vec<_>>>()?.concat();
    let (mut passed, mut failed, mut proven) = (0, 0, true);
    for (kind, path) in &files {
        let unreadable = || format!("cannot read {}", path.display());
        let lines = BufReader::new(File::open(path).with_context(unreadable)?).lines();
        let result = oracle::check_lines(kind, lines).with_context(unreadable)?;
        ui.print(result.describe(kind));
        (passed, failed, proven) = (passed + result.passed, failed + result.failed, proven && result.is_proof());
    }
    ui.print(format!("total: {passed} passed, {failed} failed (files: {})", files.len()));
    Ok(if proven { Verdict::Ok } else { Verdict::Findings })
}

/// Kind and path of the vector files that a path stands for: itself, or those of a directory in order of their names.
fn vectors(path: &Path) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    anyhow::ensure!(path.exists(), "{} does not exist", path.display());
    if !path.is_dir() {
        let kind = kind(path).with_context(|| {
            format!("{} is named after no kind of vectors; the kinds are {}", path.display(), oracle::KINDS.join(", "))
        })?;
        return Ok(vec![(kind, path.to_owned())]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let files: Vec<_> = files.into_iter().filter_map(|file| Some((kind(&file)?, file))).collect();
    anyhow::ensure!(!files.is_empty(), "{} holds no vector file <kind>.jsonl", path.display());
    Ok(files)
}

fn kind(path: &Path) -> Option<&'static str> {
    let stem = path.file_stem()?;
    oracle::KINDS.into_iter().find(|kind| stem == *kind)
}
