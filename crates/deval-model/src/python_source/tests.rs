use std::fs;

use super::*;

const GOOD: &str = "\
import json
import torch
from transformers import AutoModelForCausalLM, Pipeline
from .prompts import PROMPTS

class DeValPipeline(Pipeline):
    def __init__(self, *args, model_dir=None, **kwargs):
        from transformers.utils import logging
        self.model_dir = model_dir
";

/// Findings for these files, each as `CODE file:line:column message`.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut findings = Vec::new();
    check(dir.path(), dir.path(), &mut findings).unwrap();
    let line = |finding: &Diagnostic| {
        let place = finding.place.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} {} {place} {}", finding.code, finding.severity, finding.message)
    };
    findings.iter().map(line).collect()
}

/// The one finding about a pipeline of this text.
fn one(text: &str) -> String {
    let found = findings(&[("pipeline.py", text), ("prompts.py", "")]);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn class(body: &str) -> String {
    format!("from transformers import Pipeline\nclass DeValPipeline(Pipeline):\n{body}\n")
}

#[test]
fn a_sound_pipeline_has_no_findings() {
    assert_eq!(findings(&[("pipeline.py", GOOD), ("prompts.py", "PROMPTS = {}\n")]), [""; 0]);
}

#[test]
fn the_projects_own_pipeline_has_no_findings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    let sources = check(&root.join("pipeline/model"), &root, &mut found).unwrap();
    assert_eq!(found, []);
    assert!(sources.files.contains_key(FILE) && !sources.obfuscated);
}

#[test]
fn a_missing_file_says_where_it_may_be() {
    assert!(findings(&[])[0].contains("G35 error pipeline.py pipeline.py is missing"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Pipeline.py"), GOOD).unwrap();
    let mut found = Vec::new();
    check(dir.path(), dir.path(), &mut found).unwrap();
    assert_eq!(found[0].help.as_deref(), Some("rename `Pipeline.py` to `pipeline.py`"));
}

#[test]
fn the_class_is_looked_for_by_name_and_base() {
    assert!(one("class DevalPipeline: pass\n").contains("pipeline.py:1:7 there is no class DeValPipeline"));
    assert!(one("x = 1\n").contains("there is no class"));
    let plain = "class DeValPipeline:\n    def __init__(self, a, model_dir): pass\n";
    assert!(one(plain).contains("neither a transformers Pipeline"));
    assert!(one(&format!("{plain}    def __call__(self): pass\n")).starts_with("G35 warning"));
    assert!(one("from .prompts import DeValPipeline\n").starts_with("G35 note"));
}

#[test]
fn the_constructor_must_take_the_validators_call() {
    for good in [
        "self, name, model_dir",
        "self, *args, **kwargs",
        "self, name, *, model_dir, x=1",
        "self, name, x=1, model_dir=None",
    ] {
        let text = class(&format!("    def __init__({good}): pass"));
        assert_eq!(findings(&[("pipeline.py", &text)]), [""; 0], "{good}");
    }
    for (bad, words) in [
        ("self, model_dir", "no parameter model_dir"),
        ("self, *, model_dir", "no positional argument"),
        ("self, name", "no parameter model_dir"),
        ("self, name, tokenizer, model_dir", "`tokenizer` has no default"),
        ("self, name, model_dir, *, device", "`device` has no default"),
        ("self, name, model_dir, /", "no parameter model_dir"),
    ] {
        let found = one(&class(&format!("    def __init__({bad}): pass")));
        assert!(found.contains(words) && found.contains("pipeline.py:3:9"), "{bad}: {found}");
    }
    assert!(one(&class("    pass")).starts_with("G35 warning"));
}

#[test]
fn foreign_packages_are_found_wherever_they_are_imported() {
    let with = |line: &str| one(&format!("{GOOD}{line}"));
    assert!(
        with("import vllm\n").contains("G36 error pipeline.py:10:8 the validator's container has no package `vllm`")
    );
    assert!(
        with("        from flash_attn.ops import x\n")
            .contains("pipeline.py:10:9 the validator's container has no package `flash_attn`")
    );
    assert!(with("x = __import__('openai')\n").contains("`openai`"));
    assert!(with("import importlib\nx = importlib.import_module('openai.x')\n").contains("pipeline.py:11:5"));
    assert!(with("x = __import__(name)\n").starts_with("G36 warning"));
    assert!(with("try:\n    import vllm\nexcept ImportError:\n    vllm = None\n").starts_with("G36 note"));
    assert!(with("try:\n    import vllm\nexcept ValueError:\n    vllm = None\n").starts_with("G36 error"));
    assert!(with("import prompts\n").contains("`prompts` is the pipeline's own module"));
}

#[test]
fn imports_that_never_run_are_passed_over() {
    let text =
        format!("{GOOD}from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vllm\nelse:\n    import json\n");
    assert_eq!(findings(&[("pipeline.py", &text), ("prompts.py", "")]), [""; 0]);
}

#[test]
fn own_modules_must_be_there() {
    assert!(
        findings(&[("pipeline.py", GOOD)])[0].contains("G35 error pipeline.py:4:1 the import leads to `prompts.py`")
    );
    let text = format!(
        "{GOOD}from model.parts.score import x\nfrom .parts import score\nimport model.prompts\nfrom . import prompts, gone\n"
    );
    let found = findings(&[
        ("pipeline.py", &text),
        ("prompts.py", ""),
        ("parts/score.py", "from ..prompts import PROMPTS\nfrom ... import x\n"),
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("G36 error parts/score.py:2:1 the import goes above"));
    assert!(found[1].contains("pipeline.py:13:1 the import leads to `gone.py`"));
}

#[test]
fn what_python_cannot_parse_is_found_with_its_place() {
    let found = one("class DeValPipeline(\n    pass\n");
    assert!(found.starts_with("G35 error pipeline.py:"), "{found}");
    assert!(one("type X = int\n").contains("Python 3.11 cannot import this"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), [0xff, 0xfe]).unwrap();
    let mut found = Vec::new();
    check(dir.path(), dir.path(), &mut found).unwrap();
    assert!(found[0].message.contains("not UTF-8"));
}

#[test]
fn obfuscated_sources_are_recognised_and_need_their_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let runtime = dir.path().join("pyarmor_runtime_000000");
    fs::create_dir_all(&model).unwrap();
    let source = "# Pyarmor 8.5.11 (trial), 000000\nfrom pyarmor_runtime_000000 import __pyarmor__\n__pyarmor__(__name__, __file__, b'PY')\n";
    fs::write(model.join(FILE), source).unwrap();
    let run = || {
        let mut found = Vec::new();
        let sources = check(&model, dir.path(), &mut found).unwrap();
        assert!(sources.obfuscated);
        found.into_iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect::<Vec<_>>()
    };
    assert!(run()[0].starts_with("G37 the sources need `pyarmor_runtime_000000/`"));
    fs::create_dir(&runtime).unwrap();
    fs::write(runtime.join("__init__.py"), "from .pyarmor_runtime import __pyarmor__\n").unwrap();
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(64, 0);
    elf[18] = 0xb7;
    fs::write(runtime.join("pyarmor_runtime.so"), &elf).unwrap();
    assert!(run()[0].contains("not built for Linux x86-64"));
    elf[18] = 0x3e;
    fs::write(runtime.join("pyarmor_runtime.so"), &elf).unwrap();
    assert_eq!(run(), [""; 0]);
}
