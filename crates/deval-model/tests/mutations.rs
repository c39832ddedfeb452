//! The fuzz entries under seeded mutations of sound inputs, for toolchains without cargo-fuzz. `DEVAL_FUZZ_SECONDS` is the time for
//! each entry (by default a number of rounds, so that a failure is the same everywhere).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use deval_eval::Dice;
use deval_model::fuzz;

const ROUNDS: u64 = 3000;

/// Longest input.
const LONGEST: usize = 8192;

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"c":{"dtype":"BF16","shape":[0],"data_offsets":[16,16]}}"#;

const INDEX: &str = r#"{"metadata":{"total_size":16},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;

const PYTHON: &str = r#"# é
from __future__ import annotations
import torch, importlib
from .prompts import PROMPTS as P
from transformers import Pipeline
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import foo

class DeValPipeline(Pipeline):
    """Doc."""
    x: int = 1

    def __init__(self, *args, model_dir=None, **kwargs):
        try:
            import flash_attn
        except (ImportError, OSError) as error:
            print(f"{error!r:>{10}} {x=}")
        self.m = importlib.import_module("x" if model_dir else '''y''')

    async def __call__(self, t, /, *, k: list[int] = [], **kw) -> dict:
        match t:
            case {"a": [1, *rest], **other} if rest: return lambda a, b=1: (a := b) + 1
            case Point(x=0) | None: yield
        async with a as b, c: await d; del e[1:2, ...]
        return {**kw, **{i: j for i, *j in zip(*k) if i is not j}}
"#;

const MANIFEST: &str = include_str!("../../../deval.toml");

const COLDKEY: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

/// One change: a bit, a byte, a piece removed, doubled, moved or repeated, or a word put in.
fn mutate(bytes: &mut Vec<u8>, words: &[&[u8]], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let end = (at + 1 + dice.below(16)).min(bytes.len());
    match dice.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
        2 if at < end => drop(bytes.drain(at..end)),
        3 if at < end => {
            let piece = bytes[at..end].repeat(1 + dice.below(60));
            bytes.splice(at..at, piece);
        }
        4 if at < end => {
            let piece: Vec<u8> = bytes.drain(at..end).collect();
            let to = dice.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        5 => bytes.truncate(at),
        _ => {
            let word = words[dice.below(words.len())];
            bytes.splice(at..at, word.iter().copied());
        }
    }
    bytes.truncate(LONGEST);
}

/// Mutates sound inputs a few times each, and now and then goes on from what came of it.
#[expect(clippy::print_stderr, reason = "a long run says how far it came")]
fn run(name: &str, seeds: &[Vec<u8>], words: &[&[u8]], entry: fn(&[u8])) {
    let seconds = std::env::var("DEVAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    seeds.iter().for_each(|seed| entry(seed));
    let mut kept = seeds.to_vec();
    let mut round = 0;
    while until.map_or(round < ROUNDS, |until| Instant::now() < until) {
        let mut dice = Dice::new(round, 0);
        let mut bytes = kept[dice.below(kept.len())].clone();
        for _ in 0..1 + dice.below(8) {
            mutate(&mut bytes, words, &mut dice);
        }
        if catch_unwind(AssertUnwindSafe(|| entry(&bytes))).is_err() {
            panic!("{name}, round {round}: {}", bytes.escape_ascii());
        }
        if dice.below(4) == 0 {
            let place = seeds.len() + dice.below(64);
            if place < kept.len() { kept[place] = bytes } else { kept.push(bytes) }
        }
        round += 1;
    }
    if let Some(seconds) = seconds {
        eprintln!("{name}: {round} inputs in {seconds} s, none failed");
    }
}

#[test]
fn headers() {
    let seeds = [file(HEADER, 16), file("{}", 0), b"version https://git-lfs.github.com/spec/v1\n".to_vec()];
    let words: &[&[u8]] = &[
        b"18446744073709551615",
        b"-1",
        b"1e3",
        b"4294967296",
        b"\"a\":",
        b"{",
        b"[[",
        b"null",
        b"\"F4\"",
        b"\"F8_E4M3\"",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0\0\0\0",
        b"\"shape\":[",
        b"\"data_offsets\":[0,0]",
        b"\\ud800",
    ];
    run("header", &seeds, words, fuzz::header);
}

#[test]
fn indices() {
    let words: &[&[u8]] = &[b"\"weight_map\":", b"{", b"[", b"null", b"\"a\":1", b"\\u0000", b"\xff", b"../", b"\"\""];
    run("index", &[INDEX.into(), b"{}".to_vec()], words, fuzz::index);
}

#[test]
fn python_sources() {
    let words: &[&[u8]] = &[
        b"(",
        b"[",
        b"{",
        b"f\"{",
        b"'''",
        b"\\\n",
        b"\n  ",
        b"\n\t",
        b"lambda:",
        b"not ",
        b"-",
        b"**",
        b":=",
        b"import ",
        b"from . import ",
        b"from ....x import *",
        b"__import__(",
        b"importlib.import_module('.",
        b"class DeValPipeline(",
        b"try:",
        b"except*",
        b"match ",
        b"\xef\xbb\xbf",
        b"\r",
        b"\x0c",
        b"\xe2\x80\xa8",
        b"type X = ",
        b"from pyarmor_runtime_0 import __pyarmor__\n",
        b"\0",
        b"\xff",
        b"@",
    ];
    run("python", &[PYTHON.into(), b"x = 1".to_vec()], words, fuzz::python);
}

#[test]
fn coldkeys() {
    let seeds = [COLDKEY.into(), format!("{COLDKEY}\n").into(), format!("0x{}", "ab".repeat(32)).into()];
    let words: &[&[u8]] = &[b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xe2\x80\x8b", b" ", b"\0", b"5", b"0", b"\xff"];
    run("coldkey", &seeds, words, fuzz::coldkey);
}

#[test]
fn manifests() {
    let smallest = "schema = 1\n[submission]\nmodel_url = \"a/b\"\nmodel_dir = \"m\"\n";
    let words: &[&[u8]] = &[
        b"[evaluate]\n",
        b"[axon]\nport = ",
        b"seed = 9223372036854775807\n",
        b"label_noise = nan\n",
        b"-inf",
        b"1e400",
        b"0x7f",
        b"1979-05-27T07:32:00Z",
        b"\"\"\"",
        b"'''",
        b"[[",
        b"]]",
        b"{a.b.c = 1}",
        b"schema.x = 1\n",
        b"\"\\u0000\"",
        b"\"\\ud800\"",
        b"\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\0",
        b" = ",
        b".",
        b"#",
    ];
    run("manifest", &[MANIFEST.into(), smallest.into()], words, deval_manifest::fuzz::manifest);
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let deep = format!("a = {}1{}", open.repeat(100_000), close.repeat(100_000));
        deval_manifest::fuzz::manifest(deep.as_bytes());
    }
    deval_manifest::fuzz::manifest(format!("{} = 1", vec!["a"; 50_000].join(".")).as_bytes());
    deval_manifest::fuzz::manifest(format!("[{}]", vec!["a"; 50_000].join(".")).as_bytes());
}

#[test]
fn sources_deeper_than_any_stack() {
    for (start, level, end) in [
        ("x = ", "(", "1"),
        ("x = ", "-", "1"),
        ("x = ", "not ", "1"),
        ("x = ", "a+", "1"),
        ("x = a", ".b", ""),
        ("x = a", "()", ""),
        ("x = a", "[0]", ""),
        ("x = ", "lambda:", "1"),
        ("x = ", "a if b else ", "1"),
        ("x = ", "[", &"]".repeat(20_000)),
        ("x = ", "f'{", "1"),
        ("x = ", "a**", "1"),
        ("x: ", "a|", "b"),
        ("match x:\n  case ", "[", ""),
        ("", "if a:\n", "pass"),
        ("", "\\\n", "1"),
    ] {
        // The parser itself is quadratic in nested f-strings.
        let most = if level.starts_with("f'") { 450 } else { 30_000 };
        for levels in [450, most] {
            fuzz::python(format!("{start}{}{end}\n", level.repeat(levels)).as_bytes());
        }
    }
    fuzz::python(format!("x = {}1\n", "a+".repeat(150_000)).as_bytes());
    let nested: String = (0..300).map(|depth| format!("{}if a:\n", " ".repeat(depth))).collect();
    fuzz::python(format!("{nested}{}pass\n", " ".repeat(300)).as_bytes());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        fuzz::index(deep.as_bytes());
        fuzz::header(&file(&format!("{{\"a\":{deep}}}"), 0));
    }
}
