use std::env;

use super::*;
use crate::interpreter::tests::{fake, lacking};
use crate::testing::{Folder, managed_armor};

fn codes(error: PythonError) -> Vec<Diagnostic> {
    match error {
        PythonError::Sources(findings) => findings,
        other => panic!("{other:?}"),
    }
}

fn refused(armor: &Armor, folder: &Folder) -> Vec<Diagnostic> {
    codes(armor.obfuscate(folder.sources(), &folder.path("out"), false).map(|_| ()).unwrap_err())
}

#[test]
fn an_empty_folder_is_refused_and_not_called_done() {
    let Some(armor) = managed_armor() else { return };
    let findings = refused(&armor, &Folder::new(&[]));
    assert_eq!(findings[0].code, "obfuscate.empty");
    assert_eq!(findings[0].place.as_ref().unwrap().file, "pipeline/model");
}

#[test]
fn what_python_cannot_compile_is_told_with_its_place() {
    let Some(armor) = managed_armor() else { return };
    // The first is no error of the grammar, so that only a compiler sees it.
    let folder = Folder::new(&[("a.py", "x = 1\nreturn x\n"), ("b.py", "def f(:\n"), ("c.py", "y = 1\n")]);
    let findings = refused(&armor, &folder);
    let told: Vec<_> = findings.iter().map(|f| (f.code.as_str(), f.place.as_ref().unwrap().to_string())).collect();
    assert_eq!(told, [("G35", "pipeline/model/a.py:2:1".into()), ("G35", "pipeline/model/b.py:1:7".into())]);
    assert!(findings[0].message.contains("'return' outside function"), "{findings:?}");
    assert!(!folder.path("out").exists());
}

#[test]
fn the_trials_limit_is_told_by_file_and_by_how_much() {
    let Some(armor) = managed_armor() else { return };
    let functions: String = (0..230).map(|number| format!("def f{number}(): pass\n")).collect();
    let folder = Folder::new(&[("pipeline.py", "x = 1\n"), ("big.py", &functions)]);
    let findings = refused(&armor, &folder);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "obfuscate.size");
    assert_eq!(findings[0].place.as_ref().unwrap().file, "pipeline/model/big.py");
    let over: u64 = findings[0].message.split(' ').find_map(|word| word.parse().ok()).expect("a number");
    assert!((1..20_000).contains(&over), "{}", findings[0].message);
}

#[test]
fn sources_are_obfuscated_once_kept_and_made_again_when_asked_for_or_touched() {
    let Some(armor) = managed_armor() else { return };
    let folder = Folder::new(&[("pipeline.py", "from .b.c import X\n"), ("b/c.py", "X = 5\n"), ("empty.py", "")]);
    let out = folder.path("out");
    let made = |again| armor.obfuscate(folder.sources(), &out, again).unwrap();
    let bytes = || fs::read(out.join("model/b/c.py")).unwrap();
    let first = made(false);
    assert_eq!((first.files, first.kept), (3, false));
    assert!(first.dir.join("pyarmor_runtime_000000/pyarmor_runtime.so").is_file());
    let before = bytes();
    assert!(made(false).kept && bytes() == before);
    assert!(!made(true).kept && bytes() != before, "PyArmor writes other bytes every time");
    fs::write(out.join("model/b/c.py"), "X = 6\n").unwrap();
    assert!(!made(false).kept, "a touched tree is made again");
    fs::write(folder.path("pipeline/model/b/c.py"), "X = 7\n").unwrap();
    assert!(!made(false).kept, "so is one of other sources");
    let left: Vec<_> = fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing is left beside the sources and the output: {left:?}");
    let files = BTreeMap::from([("pipeline.py".to_owned(), out.join("model/pipeline.py"))]);
    let armored = Sources { files: &files, folder: "armored" };
    let findings = codes(armor.obfuscate(armored, &folder.path("twice"), false).map(|_| ()).unwrap_err());
    assert_eq!(findings[0].code, "obfuscate.twice");
}

#[test]
fn an_output_that_no_validator_could_run_is_refused() {
    let armored = "# Pyarmor 8.5.11 (trial), 000000, non-profits, now\nfrom pyarmor_runtime_000000 import __pyarmor__\n\
                   __pyarmor__(__name__, __file__, b'')\n";
    let folder = Folder::new(&[("pipeline.py", ""), ("other.py", "")]);
    let (made, runtime) = (folder.path("made"), folder.path("made/pyarmor_runtime_000000"));
    fs::create_dir_all(made.join("model")).unwrap();
    fs::create_dir_all(&runtime).unwrap();
    fs::write(made.join("model/pipeline.py"), armored).unwrap();
    fs::write(made.join("model/other.py"), "x = 1\n").unwrap();
    fs::write(runtime.join("__init__.py"), "").unwrap();
    // An ELF file for 64-bit ARM.
    let mut library = [&b"\x7fELF\x02\x01\x01"[..], &[0; 57]].concat();
    library[18] = 0xb7;
    fs::write(runtime.join("pyarmor_runtime.so"), library).unwrap();
    let findings = codes(check(&made, folder.sources()).unwrap_err());
    let told: Vec<_> = findings.iter().map(|finding| (finding.code.as_str(), finding.message.as_str())).collect();
    assert_eq!(told[0], ("obfuscate.incomplete", "PyArmor left no obfuscated `model/other.py`"));
    assert_eq!(told[1].0, "G37");
    assert!(told[1].1.contains("not built for Linux x86-64"), "{told:?}");
}

#[test]
fn what_the_machine_lacks_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let ensured = |script: &str| {
        let python = fake("python3.11", script);
        let path = env::join_paths([python.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        lacking(Armor::ensure(&dir.path().join("armor"), &path))
    };
    let no_venv = ensured(
        "case \"$*\" in *platform*) echo 3.11.2 CPython;; *) echo ensurepip is not available >&2; exit 1;; esac",
    );
    assert_eq!((no_venv.code.as_str(), no_venv.found.as_deref()), ("python.venv", Some("ensurepip is not available")));
    // Makes an environment whose pip reaches nobody.
    let no_index = ensured(
        "case \"$*\" in *platform*) echo 3.11.2 CPython;; *venv*) for dir; do :; done; mkdir -p $dir/bin; \
         printf '#!/bin/sh\\necho \"ERROR: No matching distribution found for pyarmor==8.5.11\" >&2\\nexit 1\\n' >$dir/bin/python; \
         chmod +x $dir/bin/python;; esac",
    );
    assert_eq!(no_index.code, "python.packages");
    assert!(no_index.help.unwrap().contains("HTTPS_PROXY"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["armor.lock"], "a failed attempt leaves nothing else");
}
