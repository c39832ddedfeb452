//! Sources obfuscated by PyArmor: what can still be known of them.

use std::fs;
use std::path::Path;

use deval_report::Diagnostic;
use ruff_python_ast::visitor::{Visitor, walk_body, walk_expr};
use ruff_python_ast::{Expr, ExprBytesLiteral, ModModule, Stmt};

use super::Source;
use crate::ModelError;
use crate::files::{self, Label};

/// How PyArmor names the folder with its runtime.
pub const RUNTIME_PREFIX: &str = "pyarmor_runtime_";

/// First bytes of a 64-bit little-endian ELF file; its kind (a shared object) and machine (x86-64) follow at byte 16.
const ELF64: &[u8] = b"\x7fELF\x02\x01";
const SHARED_X86_64: [u8; 4] = [3, 0, 0x3e, 0];

/// The Python of the validator's container, as PyArmor writes it behind the name of its code block: `PY000000`, a zero, then both numbers.
const PYTHON: [u8; 2] = [3, 11];

/// Files of one PyArmor run are written within this many seconds; each takes less than one. Runs that follow each other faster cannot be
/// told apart.
const ONE_RUN: i64 = 30;

/// An obfuscated source.
pub(super) struct Armored {
    /// Relative to the pipeline folder.
    pub(super) name: String,
    /// As findings name it.
    file: String,
    /// The runtime folder that it imports.
    pub(super) runtime: String,
    /// Whether it looks for the runtime within the package, as PyArmor's option `-i` makes it.
    inside: bool,
    /// The first bytes of its code.
    code: Vec<u8>,
    /// Version of PyArmor and the time of the run, in seconds of the day and days of the month, as its first line says.
    version: Option<String>,
    seconds: Option<i64>,
}

/// `from pyarmor_runtime_000000 import __pyarmor__`, and what stands around it.
pub(super) fn find(tree: &ModModule, source: &Source) -> Option<Armored> {
    let import = tree.body.iter().filter_map(Stmt::as_import_from_stmt).find(|import| {
        let marked = import.names.iter().any(|alias| alias.name.as_str() == "__pyarmor__");
        marked && import.module.as_ref().is_some_and(|module| module.starts_with(RUNTIME_PREFIX))
    })?;
    let mut code = Code::default();
    walk_body(&mut code, &tree.body);
    let first = source.text.lines().next().unwrap_or_default();
    let version = first.strip_prefix("# Pyarmor ").and_then(|rest| rest.split([' ', ',']).next());
    Some(Armored {
        name: source.name.clone(),
        file: source.file.clone(),
        runtime: import.module.as_ref()?.to_string(),
        inside: import.level > 0,
        code: code.0,
        version: version.map(str::to_owned),
        seconds: first.rsplit(", ").next().and_then(seconds),
    })
}

/// The first bytes of the longest bytes literal.
#[derive(Default)]
struct Code(Vec<u8>);

impl<'a> Visitor<'a> for Code {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::BytesLiteral(ExprBytesLiteral { value, .. }) = expression {
            let start: Vec<u8> = value.bytes().take(16).collect();
            if start.len() > self.0.len() {
                self.0 = start;
            }
        }
        walk_expr(self, expression);
    }
}

/// Seconds of `2026-11-22T10:20:30.123456`, counted from the month's beginning.
fn seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.trim().split_once('T')?;
    let day: i64 = date.get(8..10)?.parse().ok()?;
    let part = |range| clock.get::<std::ops::Range<usize>>(range)?.parse::<i64>().ok();
    Some(((day * 24 + part(0..2)?) * 60 + part(3..5)?) * 60 + part(6..8)?)
}

/// The runtime folder must lie beside `model/`, be of one PyArmor run, and be built for Linux x86-64; the code must be of Python 3.11
/// (gate G37).
pub(super) fn check(
    dir: &Path,
    label: &Label,
    armored: &[Armored],
    runtimes: &[String],
    findings: &mut Vec<Diagnostic>,
) -> Result<(), ModelError> {
    findings.extend(armored.iter().filter_map(wrong_python));
    findings.extend(armored.iter().find(|armored| armored.inside).map(inside));
    findings.extend(different_runs(armored, runtimes));
    findings.extend(other_version(armored));
    for name in runtimes {
        findings.extend(runtime(dir, label, name)?);
    }
    Ok(())
}

fn error(armored: &Armored, message: String) -> Diagnostic {
    Diagnostic::error("G37", message).in_file(&armored.file)
}

fn wrong_python(armored: &Armored) -> Option<Diagnostic> {
    let rest = armored.code.strip_prefix(b"PY").and_then(|rest| rest.get(6..9));
    let Some([0, major, minor]) = rest else {
        let message = "the code of this obfuscated source is damaged or not PyArmor's";
        return Some(error(armored, message.into()).help("obfuscate it again; the file must not be edited"));
    };
    let found = format!("Python {major}.{minor}");
    let finding = error(armored, format!("obfuscated under {found}, which the validator's Python cannot run"));
    let finding = finding.found(found).expected("Python 3.11").help("run PyArmor under Python 3.11");
    ([*major, *minor] != PYTHON).then_some(finding)
}

fn inside(armored: &Armored) -> Diagnostic {
    let message =
        format!("looks for `{}/` within the package, but the runtime lies at the repository's root", armored.runtime);
    error(armored, message).help("run PyArmor without `-i`")
}

/// Different serial numbers or times far apart: keys differ from run to run, so sources only work with the runtime of their own.
fn different_runs(armored: &[Armored], runtimes: &[String]) -> Option<Diagnostic> {
    if let [first, second, ..] = runtimes {
        let message = format!("the sources come from different PyArmor runs: {first} and {second}");
        return Some(error(armored.first()?, message).help(ONE));
    }
    let times = || armored.iter().filter_map(|armored| Some((armored.seconds?, armored)));
    let (first, last) = (times().min_by_key(|(time, _)| *time)?, times().max_by_key(|(time, _)| *time)?);
    let apart = last.0 - first.0;
    let message =
        format!("`{}` and `{}` were obfuscated {apart} s apart, so in different runs", first.1.name, last.1.name);
    (apart > ONE_RUN).then(|| error(last.1, message).help(ONE))
}

const ONE: &str = "obfuscate all sources in one run, into an empty folder, and ship them with the runtime of that run";

fn other_version(armored: &[Armored]) -> Option<Diagnostic> {
    let other = armored.iter().find(|armored| armored.version.as_ref().is_some_and(|version| version != "8.5.11"))?;
    let message = "obfuscated with another PyArmor than the validator's container has";
    let finding = Diagnostic::warning("G37", message).in_file(&other.file).found(other.version.clone()?);
    Some(finding.expected("8.5.11").help("`pip install pyarmor==8.5.11`"))
}

/// Whether a runtime folder lies among the sources, and not beside them.
pub(super) fn is_misplaced(dir: &Path, name: &str) -> bool {
    !dir.join("..").join(name).is_dir() && dir.join(name).is_dir()
}

fn runtime(dir: &Path, label: &Label, name: &str) -> Result<Option<Diagnostic>, ModelError> {
    let finding = |message: String| Diagnostic::error("G37", message).in_file(label.file(super::FILE));
    let folder = dir.join("..").join(name);
    let library = folder.join("pyarmor_runtime.so");
    if is_misplaced(dir, name) {
        let message =
            format!("the runtime folder `{name}/` lies inside the pipeline folder, where the sources do not look");
        let finding = Diagnostic::error("G37", message).in_file(label.file(name));
        return Ok(Some(finding.help("move it beside the pipeline folder")));
    }
    if !folder.join("__init__.py").is_file() || !library.is_file() {
        let help = "copy the whole runtime folder of the same PyArmor run beside the pipeline folder";
        let message = format!("the sources need `{name}/` beside the pipeline folder, with its .so");
        return Ok(Some(finding(message).help(help)));
    }
    let start = files::read_start(&library, 64)?;
    if start.starts_with(ELF64) && start.get(16..20) == Some(&SHARED_X86_64) {
        let size = fs::metadata(&library).map_err(ModelError::io("read", &library))?.len();
        let needed = end_of_tables(&start);
        let message = format!("`{name}/pyarmor_runtime.so` is cut off");
        let finding = finding(message).found(format!("{size} bytes")).expected(format!("at least {needed} bytes"));
        return Ok((size < needed).then(|| finding.help("copy the runtime folder again")));
    }
    let help = "run PyArmor with `--platform linux.x86_64`";
    let message = format!("`{name}/pyarmor_runtime.so` is not built for Linux x86-64");
    Ok(Some(finding(message).found(kind(&start)).expected("a 64-bit ELF shared object for x86-64").help(help)))
}

/// Where the tables of segments and sections end, of which the second mostly stands at the very end of the file (ELF-64's header:
/// offsets at bytes 32 and 40; size and number of entries from byte 54).
fn end_of_tables(header: &[u8]) -> u64 {
    if header.len() < 64 {
        return 64;
    }
    let short = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let long = |at: usize| (0..8).rev().fold(0, |number, byte| number << 8 | u64::from(header[at + byte]));
    let end = |at: usize, entries: usize| u64::saturating_add(long(at), short(entries) * short(entries + 2));
    end(32, 54).max(end(40, 58)).max(64)
}

/// What a library is, by its first bytes.
fn kind(start: &[u8]) -> String {
    match (start, start.get(18..20)) {
        ([b'M', b'Z', ..], _) => "a library of Windows".into(),
        ([0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..], _) => "a library of macOS".into(),
        ([0x7f, b'E', b'L', b'F', ..], Some([0xb7, 0])) => "an ELF file for 64-bit ARM".into(),
        ([0x7f, b'E', b'L', b'F', ..], Some(machine)) => format!("an ELF file for machine {}", machine[0]),
        _ => "no library".into(),
    }
}
