//! `cargo xtask oracle`: replays vectors that the upstream code produced.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use crate::{Verdict, ui::Ui};

pub(crate) fn run(files: &[PathBuf], ui: Ui) -> anyhow::Result<Verdict> {
    let mut failed = 0;
    for path in files {
        let kind = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .with_context(|| format!("{} has no stem", path.display()))?;
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let result = deval_eval::oracle::check_file(kind, &text);
        ui.print(format!("{kind}: {} passed, {} failed", result.passed, result.failed));
        if let Some(difference) = &result.first_difference {
            ui.print(format!("{difference:#?}"));
        }
        failed += result.failed;
    }
    Ok(if failed == 0 { Verdict::Ok } else { Verdict::Findings })
}
