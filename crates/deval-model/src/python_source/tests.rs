use std::fs;

use super::*;

const GOOD: &str = "\
import json
import torch
from transformers import AutoModelForCausalLM, Pipeline
from .prompts import PROMPTS

class DeValPipeline(Pipeline):
    def _sanitize_parameters(self, **kwargs): return {}, {}, {}
    def preprocess(self, inputs): return inputs
    def _forward(self, inputs): return inputs
    def postprocess(self, outputs): return {'score_completion': 0.5, 'mistakes_completion': []}
    def __init__(self, *args, model_dir=None, **kwargs):
        from transformers.utils import logging
        self.model_dir = model_dir
";

/// What every class of transformers' `Pipeline` defines, and the keys of the answer.
const REST: &str = "
    def _sanitize_parameters(self, **kwargs): return {}, {}, {}
    def preprocess(self, inputs): return inputs
    def _forward(self, inputs): return inputs
    def postprocess(self, outputs): return {'score_completion': 0.5, 'mistakes_completion': []}
";

const PROMPTS: &str = "PROMPTS = {}\n";

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
    let found = findings(&[("pipeline.py", text), ("prompts.py", PROMPTS)]);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn class(body: &str) -> String {
    format!("from transformers import Pipeline\nclass DeValPipeline(Pipeline):\n{body}\n{REST}")
}

#[test]
fn a_sound_pipeline_has_no_findings() {
    assert_eq!(findings(&[("pipeline.py", GOOD), ("prompts.py", PROMPTS)]), [""; 0]);
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
    let keys = "# score_completion mistakes_completion\n";
    assert!(
        one(&format!("class DevalPipeline: pass\n{keys}")).contains("pipeline.py:1:7 there is no class DeValPipeline")
    );
    assert!(one(&format!("x = 1\n{keys}")).contains("there is no class"));
    for base in ["", "(object)", "(dict)"] {
        let plain = format!("class DeValPipeline{base}:\n    def __init__(self, a, model_dir): pass\n{keys}");
        assert!(one(&plain).contains("neither a transformers Pipeline"), "{base}");
        assert!(one(&format!("{plain}    def __call__(self): pass\n")).starts_with("G35 warning"), "{base}");
    }
    assert!(one(&format!("DeValPipeline = make()\n{keys}")).starts_with("G35 note"));
    assert!(one(&format!("from transformers import DeValPipeline\n{keys}")).contains("(`transformers.DeValPipeline`)"));
}

#[test]
fn bases_are_followed_by_what_they_are_and_not_by_their_names() {
    let body = "    def __init__(self, *args, model_dir=None, **kwargs): pass\n";
    let with = |imports: &str, base: &str| format!("{imports}\nclass DeValPipeline({base}):\n{body}{REST}");
    let good = [
        ("from transformers import Pipeline as P", "P"),
        ("import transformers", "transformers.Pipeline"),
        ("import transformers as tf", "tf.pipelines.base.Pipeline"),
        ("import transformers.pipelines", "transformers.pipelines.Pipeline"),
        ("from transformers.pipelines import base", "base.Pipeline"),
        ("from transformers import TextGenerationPipeline as T", "T"),
        ("try:\n    from transformers import Pipeline\nexcept ImportError:\n    raise", "Pipeline"),
        ("from .base import Base", "Base"),
        ("from . import base", "base.Base"),
        ("from model.base import Base as B", "B"),
        ("import model.base", "model.base.Base"),
        ("from .parts import Base", "Base"),
        ("from .base import Base\nclass Middle(Base): pass", "Middle"),
    ];
    let base = "from transformers import Pipeline\nclass Base(Pipeline): pass\n";
    for (imports, class) in good {
        let text = with(imports, class);
        let files = [("pipeline.py", &*text), ("base.py", base), ("parts/__init__.py", "from ..base import Base\n")];
        assert_eq!(findings(&files), [""; 0], "{imports}");
    }
    let other = with("from .base import MyPipeline", "MyPipeline");
    let found = findings(&[("pipeline.py", &other), ("base.py", "class MyPipeline: pass\n")]);
    assert!(found.len() == 1 && found[0].contains("neither a transformers Pipeline"), "{found:#?}");
    let unclear = ["from torch import *", "from torch.nn import Module as Pipeline", "Pipeline = make()"];
    for imports in unclear {
        let found = one(&with(imports, "Pipeline"));
        assert!(found.starts_with("G35 warning") && found.contains("cannot be seen"), "{imports}: {found}");
    }
    let endless = with("from .base import DeValPipeline as Base", "Base");
    let found = findings(&[("pipeline.py", &endless), ("base.py", "from .pipeline import DeValPipeline\n")]);
    assert!(found.len() == 1 && found[0].starts_with("G35 warning"), "{found:#?}");
}

#[test]
fn a_constructor_may_come_from_the_packages_own_base() {
    let text = format!("from .base import Base\nclass DeValPipeline(Base):{REST}");
    let base = |parameters: &str| {
        format!("from transformers import Pipeline\nclass Base(Pipeline):\n    def __init__({parameters}): pass\n")
    };
    let good = base("self, *args, **kwargs");
    assert_eq!(findings(&[("pipeline.py", &text), ("base.py", &good)]), [""; 0]);
    let found = findings(&[("pipeline.py", &text), ("base.py", &base("self, name"))]);
    assert!(found.len() == 1 && found[0].contains("base.py:3:9 the constructor cannot be called"), "{found:#?}");
}

#[test]
fn methods_that_transformers_leaves_abstract_must_be_there() {
    let found = one(&GOOD.replace("    def preprocess", "    def process").replace("_forward", "forward"));
    assert!(found.contains("does not define preprocess, _forward, without which"), "{found}");
    let ready = GOOD.replace("    def preprocess", "    def process").replace("Pipeline", "TextGenerationPipeline");
    let ready = ready.replace("DeValTextGeneration", "DeVal");
    assert_eq!(findings(&[("pipeline.py", &ready), ("prompts.py", PROMPTS)]), [""; 0], "others have them");
}

#[test]
fn answers_need_both_keys() {
    let found = one(&GOOD.replace("score_completion", "score"));
    assert!(
        found.starts_with("python.answer-keys warning pipeline.py no source mentions `score_completion`"),
        "{found}"
    );
    let elsewhere = GOOD.replace("mistakes_completion", "mistakes");
    assert_eq!(
        findings(&[("pipeline.py", &elsewhere), ("prompts.py", "PROMPTS = {'mistakes_completion': 1}")]),
        [""; 0]
    );
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
        ("self, model_dir", "lands in its parameter model_dir"),
        ("self, model_dir: str, **settings", "lands in its parameter model_dir"),
        ("self, name, x, model_dir, /, **rest", "`x` has no default"),
        ("self, *, model_dir", "no positional argument"),
        ("self, name", "no parameter model_dir"),
        ("self, name, tokenizer, model_dir", "`tokenizer` has no default"),
        ("self, name, model_dir, *, device", "`device` has no default"),
        ("self, name, model_dir, /", "no parameter model_dir"),
    ] {
        let found = one(&class(&format!("    def __init__({bad}): pass")));
        assert!(found.contains(words) && found.contains("pipeline.py:3:9"), "{bad}: {found}");
    }
    for (head, words) in [
        ("async def", "returns a coroutine"),
        ("@staticmethod\n    def", "`staticmethod`"),
        ("@classmethod\n    def", "`classmethod`"),
    ] {
        let found = one(&class(&format!("    {head} __init__(self, *args, **kwargs): pass")));
        assert!(found.starts_with("G35 error") && found.contains(words), "{head}: {found}");
    }
    let good = class("    def __init__(self, *args, **kwargs): pass");
    for (end, words) in [
        ("del DeValPipeline", "error pipeline.py there is no class"),
        ("DeValPipeline = None", "error pipeline.py:9:1 DeValPipeline is given a plain value"),
        ("DeValPipeline = wrap(DeValPipeline)", "note"),
        ("def DeValPipeline(task, model_dir): pass", "note"),
    ] {
        let found = one(&format!("{good}{end}\n"));
        assert!(found.starts_with("G35") && found.contains(words), "{end}: {found}");
    }
    assert!(one(&class("    pass")).starts_with("G35 error pipeline.py:2:7 DeValPipeline has no constructor"));
    let decorated = class("    pass")
        .replace("class", "@dataclass\nclass")
        .replace("from", "from dataclasses import dataclass\nfrom");
    assert!(one(&decorated).starts_with("G35 warning"));
}

#[test]
fn foreign_packages_are_found_wherever_they_are_imported() {
    let with = |line: &str| one(&format!("{GOOD}{line}"));
    assert!(
        with("import vllm\n").contains("G36 error pipeline.py:14:8 the validator's container has no package `vllm`")
    );
    assert!(
        with("        from flash_attn.ops import x\n")
            .contains("pipeline.py:14:9 the validator's container has no package `flash_attn`")
    );
    assert!(with("x = __import__('openai')\n").contains("`openai`"));
    assert!(with("import importlib\ngetattr(importlib, 'import_module')('vllm')\n").contains("no package `vllm`"));
    assert!(with("import importlib\nx = importlib.import_module('openai.x')\n").contains("pipeline.py:15:5"));
    assert!(with("x = getattr(__builtins__, '__imp' + 'ort__')('vl' + 'lm')\n").contains("no package `vllm`"));
    assert!(with("x = __import__(name)\n").starts_with("G36 warning"));
    assert!(with("from importlib import import_module as load\nx = load('openai')\n").contains("`openai`"));
    assert!(with("import importlib as i\nx = i.import_module(name='openai')\n").contains("`openai`"));
    assert!(
        with("import importlib\nx = importlib.import_module('.gone', __package__)\n").contains("leads to `gone.py`")
    );
    assert!(
        with("import contextlib\nwith contextlib.suppress(ImportError):\n    import vllm\n").starts_with("G36 note")
    );
    assert!(with("import msvcrt\n").contains("no package `msvcrt`"), "Windows has it, the container has not");
    assert!(with("try:\n    import vllm\nexcept ImportError:\n    vllm = None\n").starts_with("G36 note"));
    assert!(with("try:\n    import vllm\nexcept ValueError:\n    vllm = None\n").starts_with("G36 error"));
    assert!(with("import prompts\n").contains("`prompts` is the pipeline's own module"));
}

#[test]
fn imports_that_never_run_are_passed_over() {
    let text =
        format!("{GOOD}from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import vllm\nelse:\n    import json\n");
    assert_eq!(findings(&[("pipeline.py", &text), ("prompts.py", PROMPTS)]), [""; 0]);
    let own = format!("{GOOD}import importlib\nx = importlib.import_module('.prompts', __package__)\n");
    assert_eq!(findings(&[("pipeline.py", &own), ("prompts.py", PROMPTS)]), [""; 0]);
}

#[test]
fn packages_of_the_lock_file_are_known_with_what_they_bring() {
    let lock = "torch transformers numpy requests yaml tqdm regex safetensors huggingface_hub scipy jinja2 dotenv \
                starlette networkx sympy fsspec psutil tokenizers accelerate peft bitsandbytes uvicorn";
    let text = lock.split_whitespace().map(|name| format!("import {name}\n")).collect::<String>();
    let text = format!("{text}{GOOD}");
    assert_eq!(findings(&[("pipeline.py", &text), ("prompts.py", PROMPTS)]), [""; 0]);
}

#[test]
fn names_taken_from_own_modules_must_be_defined_there() {
    let with = |prompts: &str| findings(&[("pipeline.py", GOOD), ("prompts.py", prompts)]);
    for good in [
        "PROMPTS: dict = {}",
        "if True:\n    PROMPTS = {}",
        "try:\n    import json as PROMPTS\nexcept ImportError:\n    PROMPTS = None",
        "for PROMPTS in (1, 2): pass",
        "with open('x') as PROMPTS: pass",
        "(a, [PROMPTS, *b]) = 1, [2]",
        "def f():\n    global PROMPTS\n    PROMPTS = 1",
        "from json import *",
        "def __getattr__(name): return name",
        "globals()['PROMPTS'] = 1",
        "x = (PROMPTS := 1)",
        "match 1:\n    case 1:\n        PROMPTS = 1",
    ] {
        assert_eq!(with(good), [""; 0], "{good}");
    }
    let found = with("PROMPT = {}\ndef f():\n    PROMPTS = 1\n");
    assert!(found.len() == 1, "{found:#?}");
    assert!(found[0].contains("G35 error pipeline.py:4:22 `prompts.py` defines no `PROMPTS`"), "{found:#?}");
}

#[test]
fn network_other_programs_and_code_from_elsewhere_are_told_with_their_place() {
    for (code, lines, place, words) in [
        ("python.network", "import requests\nx = requests.get('u')", "15:5", "`requests.get` reaches"),
        ("python.network", "from urllib.request import urlopen as o\nx = o('u')", "15:5", "`urllib.request.urlopen`"),
        ("python.network", "import socket as s\nf = s.socket", "15:5", "`socket.socket`"),
        (
            "python.network",
            "from huggingface_hub import snapshot_download\nsnapshot_download('a/b')",
            "15:1",
            "snapshot_download",
        ),
        ("python.network", "x = AutoModelForCausalLM.from_pretrained('meta/x')", "14:5", "from_pretrained(\"meta/x\")"),
        ("python.subprocess", "import os\nos.system('ls')", "15:1", "`os.system` starts another program"),
        ("python.subprocess", "import os\nos.fork()", "15:1", "`os.fork`"),
        ("python.subprocess", "import multiprocessing\nmultiprocessing.Process()", "15:1", "`multiprocessing.Process`"),
        ("python.dynamic-code", "getattr(__builtins__, 'exec')('1')", "14:1", "`exec`"),
        ("python.dynamic-code", "getattr(__builtins__, chr(101) + 'xec')('1')", "14:1", "`getattr(builtins, …)`"),
        ("python.subprocess", "import os\nos.execvp('ls', [])", "15:1", "`os.execvp`"),
        ("python.subprocess", "from subprocess import run\nf = [run]", "15:6", "`subprocess.run`"),
        ("python.dynamic-code", "exec('x = 1')", "14:1", "`exec` runs code"),
        ("python.dynamic-code", "f = lambda t: eval(t)", "14:15", "`eval`"),
        ("python.dynamic-code", "import pickle\npickle.loads(b'')", "15:1", "`pickle.loads`"),
        ("python.dynamic-code", "import ctypes\nctypes.CDLL('x')", "15:1", "`ctypes.CDLL`"),
    ] {
        let found = one(&format!("{GOOD}{lines}\n"));
        assert!(found.starts_with(&format!("{code} warning pipeline.py:{place} ")), "{lines}: {found}");
        assert!(found.contains(words), "{lines}: {found}");
    }
    let harmless = "import os, re, torch, socket\nmodel = torch.nn.Linear(1, 1).eval()\nr = re.compile('x')\nt = torch.compile(model)\n\
                    p = os.path.join('a')\nm = AutoModelForCausalLM.from_pretrained('./x')\ndef f(model_dir):\n    \
                    return AutoModelForCausalLM.from_pretrained(model_dir)\n";
    let text = format!("{GOOD}{harmless}");
    assert_eq!(findings(&[("pipeline.py", &text), ("prompts.py", PROMPTS)]), [""; 0]);
}

#[test]
fn a_folder_behind_a_link_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
    fs::create_dir_all(model.join("parts")).unwrap();
    fs::write(model.join(FILE), GOOD).unwrap();
    fs::write(model.join("prompts.py"), PROMPTS).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", model.join("parts/linked")).unwrap();
    let mut found = Vec::new();
    check(&model, dir.path(), &mut found).unwrap();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.contains("is a link to a folder"));
    assert_eq!(found[0].place.as_ref().unwrap().to_string(), "model/parts/linked");
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
        ("prompts.py", PROMPTS),
        ("parts/score.py", "from ..prompts import PROMPTS\nfrom ... import x\nx = 1\n"),
    ]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("G36 error parts/score.py:2:1 the import goes above"));
    assert!(found[1].contains("pipeline.py:17:1 the import leads to `gone.py`"));
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

/// As PyArmor 8.5.11 writes it, under a Python with this minor number and at this time.
fn armored(minor: u8, time: &str) -> String {
    format!(
        "# Pyarmor 8.5.11 (trial), 000000, non-profits, {time}\nfrom pyarmor_runtime_000000 import __pyarmor__\n\
         __pyarmor__(__name__, __file__, b'PY000000\\x00\\x03\\x{minor:02x}\\x00\\xa7\\r\\r\\n')\n"
    )
}

const TIME: &str = "2026-11-29T03:29:08.542651";

#[test]
fn obfuscated_sources_are_recognised_and_need_their_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let runtime = dir.path().join("pyarmor_runtime_000000");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join(FILE), armored(11, TIME)).unwrap();
    let run = || {
        let mut found = Vec::new();
        let sources = check(&model, dir.path(), &mut found).unwrap();
        assert!(sources.obfuscated && sources.hidden.contains(&FILE.to_owned()));
        found.into_iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect::<Vec<_>>()
    };
    assert!(run()[0].starts_with("G37 the sources need `pyarmor_runtime_000000/`"));
    fs::create_dir(model.join("pyarmor_runtime_000000")).unwrap();
    let inside = run();
    assert!(inside.len() == 1 && inside[0].contains("lies inside the pipeline folder"), "{inside:#?}");
    // With the runtime's own source in it, as PyArmor writes it.
    fs::write(model.join("pyarmor_runtime_000000/__init__.py"), "from .pyarmor_runtime import __pyarmor__\n").unwrap();
    let inside = run();
    assert!(inside.len() == 1 && inside[0].contains("lies inside the pipeline folder"), "{inside:#?}");
    fs::remove_dir_all(model.join("pyarmor_runtime_000000")).unwrap();
    fs::create_dir(&runtime).unwrap();
    fs::write(runtime.join("__init__.py"), "from .pyarmor_runtime import __pyarmor__\n").unwrap();
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(64, 0);
    (elf[16], elf[18]) = (3, 0xb7);
    for library in [elf.clone(), b"MZ\x90".to_vec(), b"".to_vec()] {
        fs::write(runtime.join("pyarmor_runtime.so"), &library).unwrap();
        assert!(run()[0].contains("not built for Linux x86-64"));
    }
    elf[18] = 0x3e;
    (elf[40], elf[58], elf[60]) = (64, 64, 2);
    elf.resize(191, 0);
    for length in [20, 64, 191] {
        fs::write(runtime.join("pyarmor_runtime.so"), &elf[..length]).unwrap();
        let found = run();
        assert!(found.len() == 1 && found[0].contains("is cut off"), "{length}: {found:#?}");
    }
    elf.push(0);
    fs::write(runtime.join("pyarmor_runtime.so"), &elf).unwrap();
    assert_eq!(run(), [""; 0]);
    let one = |name: &str, text: String| {
        let old = fs::read_to_string(model.join(name)).ok();
        fs::write(model.join(name), text).unwrap();
        let found = run();
        match old {
            Some(old) => fs::write(model.join(name), old).unwrap(),
            None => fs::remove_file(model.join(name)).unwrap(),
        }
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap()
    };
    assert!(one(FILE, armored(12, TIME)).contains("obfuscated under Python 3.12"));
    assert!(one(FILE, armored(11, TIME).replace("PY000000\\x00", "edited")).contains("damaged"));
    assert!(one(FILE, armored(11, TIME).replace("8.5.11", "9.0.0")).contains("another PyArmor"));
    assert!(one(FILE, armored(11, TIME).replace("from py", "from .py")).contains("within the package"));
    let soon = armored(11, "2026-11-29T03:29:39.000000");
    assert!(one("prompts.py", soon).contains("obfuscated 31 s apart"));
    let later = armored(11, "2026-11-29T04:00:00.000000");
    assert!(one("prompts.py", later).contains("`pipeline.py` and `prompts.py` were obfuscated 1852 s apart"));
    fs::write(model.join("prompts.py"), armored(11, "2026-11-29T03:29:09.000000")).unwrap();
    fs::write(model.join("plain.py"), "import vllm\n").unwrap();
    assert_eq!(run(), ["G36 the validator's container has no package `vllm`"], "plain sources beside them are read");
}
