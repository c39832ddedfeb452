//! How large sources are as PyArmor's trial counts them.

use std::path::Path;
use std::time::Duration;

use deval_report::Diagnostic;
use serde::Deserialize;

use super::Sources;
use crate::PythonError;
use crate::process;

/// Compiled bytes of one file that the trial takes, and what each code object (module, function, class, comprehension) costs beside its
/// own bytes. Both measured with PyArmor 8.5.11; the second only roughly.
const LIMIT: u64 = 65_536;
const PER_CODE: u64 = 207;

const PATIENCE: Duration = Duration::from_secs(60);
const SCRIPT: &str = include_str!("../../python/measure.py");

/// Estimated size of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(u64);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Measured {
    Compiled { bytes: u64, codes: u64 },
    Refused { message: String, line: Option<u32>, column: Option<u32> },
}

impl Size {
    /// Said of a file that has less than a tenth of the limit left.
    pub(super) fn remark(self, file: &str) -> Option<Diagnostic> {
        let near = self.0 > LIMIT * 9 / 10;
        near.then(|| {
            let message = "this source is near the limit of PyArmor's trial";
            let finding = Diagnostic::note("obfuscate.size", message).in_file(file).found(self.told());
            finding.expected(format!("at most {LIMIT}")).help("split the file before it grows")
        })
    }

    fn told(self) -> String {
        format!("about {} compiled bytes", self.0)
    }
}

/// The size of each source, by its name.
///
/// # Errors
/// [`PythonError::Sources`] (`G35`) for sources that Python cannot compile, each with its place.
pub(super) fn measure(python: &Path, sources: Sources<'_>) -> Result<Vec<(String, Size)>, PythonError> {
    let mut command = process::python(python);
    command.args(["-I", "-c", SCRIPT]).args(sources.files.values());
    let ended = process::run(&mut command, PATIENCE)?;
    let answer = || PythonError::Answer { program: "measure.py".into(), said: ended.last_lines(4) };
    let measured: Vec<Measured> = serde_json::from_str(&ended.stdout).map_err(|_| answer())?;
    let (mut sizes, mut findings) = (Vec::new(), Vec::new());
    for (name, measured) in sources.files.keys().zip(measured) {
        match measured {
            Measured::Compiled { bytes, codes } => sizes.push((name.clone(), Size(bytes + PER_CODE * codes))),
            Measured::Refused { message, line, column } => {
                let finding = Diagnostic::error("G35", format!("Python 3.11 cannot import this: {message}"));
                findings.push(match line {
                    Some(line) => finding.at(sources.file(name), line, column.unwrap_or(1).max(1)),
                    None => finding.in_file(sources.file(name)),
                });
            }
        }
    }
    if findings.is_empty() { Ok(sizes) } else { Err(PythonError::Sources(findings)) }
}

/// The files that are larger than the trial takes; at least the one, `last`, at which PyArmor gave up.
pub(super) fn too_large(sizes: &[(String, Size)], last: &str, sources: Sources<'_>) -> Vec<Diagnostic> {
    let stopped = |name: &str| name.rsplit('/').next() == Some(last);
    let over = sizes.iter().filter(|(name, size)| size.0 > LIMIT || stopped(name));
    let findings: Vec<_> = over
        .map(|(name, size)| {
            let message = match size.0.checked_sub(LIMIT) {
                Some(over @ 1..) => format!("this source is about {over} bytes too large for PyArmor's trial"),
                _ => "this source is too large for PyArmor's trial".to_owned(),
            };
            let help = "split it into several files, or set `obfuscate = false`; comments cost nothing";
            let finding = Diagnostic::error("obfuscate.size", message).in_file(sources.file(name));
            finding.found(size.told()).expected(format!("at most {LIMIT} in one file")).help(help)
        })
        .collect();
    if findings.is_empty() {
        let finding = Diagnostic::error("obfuscate.size", "a source is too large for PyArmor's trial");
        return vec![finding.in_file(sources.folder).help("split the largest file, or set `obfuscate = false`")];
    }
    findings
}
