//! Sources obfuscated by PyArmor: what can still be known of them.

use std::path::Path;

use deval_report::Diagnostic;
use ruff_python_ast::{ModModule, Stmt};

use super::Sources;
use crate::ModelError;
use crate::files::{self, Label};

/// How PyArmor names the folder with its runtime.
pub const RUNTIME_PREFIX: &str = "pyarmor_runtime_";

/// First bytes of a 64-bit little-endian ELF file, and its machine number for x86-64 at byte 18.
const ELF64: &[u8] = b"\x7fELF\x02\x01";
const X86_64: [u8; 2] = [0x3e, 0];

/// The runtime that an obfuscated source imports: `from pyarmor_runtime_000000 import __pyarmor__`.
pub(super) fn runtime(tree: &ModModule) -> Option<String> {
    tree.body.iter().find_map(|statement| {
        let Stmt::ImportFrom(import) = statement else { return None };
        let module = import.module.as_ref()?.as_str();
        let marked = import.names.iter().any(|alias| alias.name.as_str() == "__pyarmor__");
        (marked && module.starts_with(RUNTIME_PREFIX)).then(|| module.to_owned())
    })
}

/// The runtime folder must lie beside `model/`, be of one PyArmor run, and be built for Linux x86-64 (gate G37).
pub(super) fn check(
    dir: &Path,
    label: &Label,
    sources: &Sources,
    findings: &mut Vec<Diagnostic>,
) -> Result<(), ModelError> {
    let finding = |message: String| Diagnostic::error("G37", message).in_file(label.file(super::FILE));
    if let [first, second, ..] = &sources.runtimes[..] {
        findings.push(finding(format!("the sources come from different PyArmor runs: {first} and {second}")));
    }
    for name in &sources.runtimes {
        let folder = dir.join("..").join(name);
        let library = folder.join("pyarmor_runtime.so");
        if !folder.join("__init__.py").is_file() || !library.is_file() {
            let help = "copy the whole runtime folder of the same PyArmor run beside the pipeline folder";
            findings.push(
                finding(format!("the sources need `{name}/` beside the pipeline folder, with its .so")).help(help),
            );
            continue;
        }
        let start = files::read(&library)?;
        if !start.starts_with(ELF64) || start.get(18..20) != Some(&X86_64) {
            let help = "run PyArmor with `--platform linux.x86_64`";
            findings.push(finding(format!("`{name}/pyarmor_runtime.so` is not built for Linux x86-64")).help(help));
        }
    }
    Ok(())
}
