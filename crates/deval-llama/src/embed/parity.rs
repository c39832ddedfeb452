//! The same embeddings as transformers computes them, in the environment that `ci/python-env.sh` makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::Embedder;
use crate::parity::{python, run_script};
use crate::real_model::{minilm, wheels};

/// The issue's bar, and what the rewards of two implementations may differ by.
const SMALLEST_COSINE: f64 = 0.99999;
const LARGEST_REWARD_DIFFERENCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Reference {
    cls: Vec<Vec<f32>>,
    mean: Vec<Vec<f32>>,
    seconds: f64,
}

/// What Python computes for `texts` with the models that the arguments name, by directory.
fn reference(python: &Path, texts: &[String], arguments: &[&Path]) -> BTreeMap<PathBuf, Reference> {
    let texts = serde_json::to_vec(texts).unwrap();
    serde_json::from_slice(&run_script(python, "embeddings.py", &texts, arguments)).unwrap()
}

/// Embeds with both poolings and holds each vector, and the reward of each pair of texts, against Python's.
fn compare(dir: &Path, texts: &[String], reference: &Reference) {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = dir.file_name().unwrap().to_string_lossy();
    for (mode, expected) in [("cls_token", &reference.cls), ("mean_tokens", &reference.mean)] {
        fs::create_dir_all(dir.join("1_Pooling")).unwrap();
        let pooling = json!({ format!("pooling_mode_{mode}"): true });
        fs::write(dir.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
        let embedder = Embedder::load(dir).unwrap();
        let found = embedder.embed_batch(&texts).unwrap();
        let cosines = found.iter().zip(expected).map(|(found, expected)| cosine(found, expected));
        let (worst, text) = cosines.zip(&texts).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let reward = largest_reward_difference(&found, expected);
        let count = found.len();
        println!("{name}, {mode}: {count} texts, worst cosine 1 - {:.1e}, rewards within {reward:.1e}", 1.0 - worst);
        assert!(worst >= SMALLEST_COSINE, "{name}, {mode}: {worst} for {text:?}");
        assert!(reward < LARGEST_REWARD_DIFFERENCE, "{name}, {mode}: {reward}");
    }
}

/// Over all pairs; the first text is the empty one.
fn largest_reward_difference(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f64 {
    let reward = |all: &[Vec<f32>], reference: usize, answer: usize| {
        cosine(&all[reference], &all[answer]) - cosine(&all[reference], &all[0])
    };
    let pairs = (0..ours.len()).flat_map(|reference| (0..ours.len()).map(move |answer| (reference, answer)));
    pairs.map(|(a, b)| (reward(ours, a, b) - reward(theirs, a, b)).abs()).fold(0.0, f64::max)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn minilm_embeds_as_in_python() {
    let (Some(python), Some(wheels)) = (python(), wheels()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("all-MiniLM-L6-v2");
    minilm(&wheels, &model);
    let texts = texts();
    assert!(texts.len() >= 60);
    let reference = &reference(&python, &texts, &[&model])[&model];
    compare(&model, &texts, reference);

    let embedder = Embedder::load(&model).unwrap();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    let started = Instant::now();
    let expected = embedder.embed_batch(&borrowed).unwrap();
    let rate = |seconds: f64| texts.len() as f64 / seconds;
    let (ours, theirs) = (rate(started.elapsed().as_secs_f64()), rate(reference.seconds));
    println!("texts/s: {ours:.1}, transformers {theirs:.1}");

    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let embedder = Embedder::load(&model).unwrap();
    assert!(embedder.embed_batch(&borrowed).unwrap() == expected, "vocab.txt alone gives the same tokens");
}

#[test]
fn small_encoders_of_every_type_embed_as_in_python() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let texts = texts();
    let references = reference(&python, &texts, &[Path::new("--tiny"), dir.path()]);
    let names: Vec<_> = references.keys().filter_map(|dir| dir.file_name()?.to_str()).collect();
    assert_eq!(names, ["bert", "bert-cased", "bert-half", "distilbert", "roberta", "xlm-roberta"]);
    for (dir, reference) in references {
        compare(&dir, &texts, &reference);
    }
}

const CLAIMS: [&str; 12] = [
    "The committee met on Tuesday and agreed to publish the report.",
    "Anna Kowalska will send the revised budget to the board by 14 March.",
    "Revenue grew by 7.5 % to $1,204 million in the third quarter.",
    "The new ferry carries 350 passengers; the old one carried 280.",
    "Nobody at the meeting objected to moving the office to Leeds.",
    "Dr. O'Neill said that the trial's second phase starts in 2031.",
    "The bridge over the Vltava was closed because of the flood.",
    "Customers who ordered before noon received their parcels the next day.",
    "Tom thinks the remote control should have a rubber case.",
    "Participants disagreed about whether the battery is worth its price.",
    "The museum lends the painting to Osaka until the end of the year.",
    "It didn't rain in the valley for ninety-one days.",
];

const ODD: [&str; 46] = [
    "",
    " ",
    "word",
    "Zürich",
    "naïve café façade",
    "cafe\u{301} in pieces",
    "İstanbul'da ILIK ılık",
    "Straße, ﬁn, ﬂow, Ⅻ, ½, ２０３１",
    "ΟΔΟΣ οδός Ὀδυσσεύς",
    "Комитет собрался во вторник, ёлка и йод",
    "اللُّغَة العَرَبِيَّة",
    "שָׁלוֹם עולם",
    "हिन्दी में एक वाक्य",
    "ภาษาไทยไม่มีช่องว่าง",
    "한국어 문장입니다",
    "東京タワーがどこにあるか、ご存じですか。",
    "委员会星期二开会，同意发表报告。",
    "𠀋𪚥 rare ideographs 豈",
    "🙂",
    "👩‍🚀 landed 🚀 on the 🌙!! 🇵🇱🇯🇵 👍🏽",
    "z\u{334}\u{321}a\u{335}\u{322}l\u{336}g\u{337}o\u{338}",
    "\u{0}nul\u{1}and\u{7f}delete\u{9f}",
    "file\u{1c}group\u{1d}record\u{1e}unit\u{1f}end",
    "next\u{85}line\u{2028}and\u{2029}paragraph",
    "zero\u{200b}width\u{200d}and\u{feff}mark\u{ad}soft",
    "replacement \u{fffd} private \u{e000} unassigned \u{378}",
    "tab\tline\r\nfeed\u{b}vertical\u{c}form",
    "no\u{a0}break\u{2003}em\u{3000}ideographic",
    "[CLS] literal [SEP] special [MASK] tokens [PAD] [UNK]",
    "<s> literal <pad> special <mask> tokens </s> <unk>",
    "[cls][sep] <S> ##ing ## #",
    "http://example.org/a_b?c=d&e=%20#f",
    "e-mail: first.last+tag@example.co.uk",
    "snake_case camelCase kebab-case ALLCAPS",
    "1,000,000.00 -3.5e-7 0x1F 12:30:45 2031-03-14",
    "!!! ... ??? ;;; --- ___ ~~~ ``` ''' \"\"\"",
    "“curly” ‘quotes’ — dashes – and … dots •",
    "$5 €5 £5 ¥5 ₹5 ±5 ×5 ÷5 ≤5 ∞",
    "a^b `c` d|e {f} <g> =h+i ~j",
    "don't won't can't it's o'clock",
    "\n\n\n",
    ".",
    "A",
    "a b c d e f g",
    "Ünïcödé ÀÉÎÕÜ àéîõü çñ øłđ",
    "\u{1d400}\u{1d401} math \u{24d0} circled \u{ff21}\u{ff22} wide",
];

fn texts() -> Vec<String> {
    let joined = |first: usize, count: usize, separator: &str| {
        CLAIMS.iter().cycle().skip(first).take(count).copied().collect::<Vec<_>>().join(separator)
    };
    let mut texts: Vec<String> = ODD.iter().chain(&CLAIMS).map(|text| (*text).to_owned()).collect();
    texts.extend((0..6).map(|first| joined(first, first + 2, "\n")));
    texts.extend(["", "\t", "  ", "\n\n", "..."].map(|separator| joined(3, 4, separator)));
    // Around the limit of 512 tokens, and far beyond it.
    texts.extend([509, 510, 511, 512].map(|count| "a ".repeat(count)));
    texts.extend([joined(0, 40, "\n"), "委".repeat(700), "x".repeat(101), "word".repeat(600)]);
    texts
}
