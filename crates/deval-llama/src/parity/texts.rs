//! Chat templates and tokens.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::conversations::{cases, conversations};
use super::lines::lines;
use super::{python, reference};
use crate::chat::{ChatTemplate, Message};
use crate::real_model::{smollm, wheels};
use crate::testing::{TinyLlama, write_tiny_llama};
use crate::tokenizer::TextCodec;
use crate::work::Prompt;

const LINES: usize = 10_000;
/// For folders that differ in their settings only.
const FEWER_LINES: usize = 1_000;

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The text of a conversation with its tokens, `None` where the template cannot be had or refuses.
fn rendered(dir: &Path, turns: &[(&str, String)], open: bool, date: Option<&str>) -> Option<(String, Vec<u32>)> {
    let mut template = ChatTemplate::load(dir).ok()??;
    if let Some(date) = date {
        template = template.with("date_string", date);
    }
    let messages: Vec<_> = turns.iter().map(|(role, content)| Message { role, content }).collect();
    let text = template.render(&messages, open).ok()?;
    let tokens = TextCodec::load(dir).unwrap().encode(&Prompt::Chat(text.clone())).unwrap();
    Some((text, tokens))
}

fn job(dir: &Path, date: Option<&str>) -> Value {
    let conversations = conversations().into_iter().map(|(turns, open)| {
        let messages: Vec<_> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        let mut conversation = json!({"messages": messages, "add_generation_prompt": open});
        if let Some(date) = date {
            conversation["date_string"] = json!(date);
        }
        conversation
    });
    json!({"job": "chat", "dir": dir, "conversations": conversations.collect::<Vec<_>>()})
}

fn compare(dir: &Path, date: Option<&str>, expected: &Value) -> usize {
    let texts: Vec<Option<String>> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let tokens: Vec<Option<Vec<u32>>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let conversations = conversations();
    assert!(texts.len() >= 20 && texts.len() == conversations.len());
    for ((turns, open), expected) in conversations.iter().zip(texts.into_iter().zip(tokens)) {
        let expected = expected.0.zip(expected.1);
        assert_eq!(rendered(dir, turns, *open, date), expected, "{}: {turns:?}", dir.display());
    }
    conversations.len()
}

#[test]
fn chats_are_put_together_as_transformers_does() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for case in cases() {
        let dir = root.path().join(case.name);
        write_tiny_llama(&dir, &TinyLlama::default()).unwrap();
        let mut settings = case.settings;
        settings["tokenizer_class"] = json!("PreTrainedTokenizerFast");
        fs::write(dir.join("tokenizer_config.json"), settings.to_string()).unwrap();
        if let Some(text) = case.file {
            fs::write(dir.join("chat_template.jinja"), text).unwrap();
        }
        jobs.push((dir.clone(), None));
        if case.name == "llama31" {
            jobs.push((dir, Some("01 Jan 2031")));
        }
    }
    if let Some(wheels) = wheels() {
        jobs.push((smollm(&wheels, root.path()), None));
    }
    let asked: Vec<Value> = jobs.iter().map(|(dir, date)| job(dir, *date)).collect();
    let (_, results) = reference(&python, None, &asked);
    let count: usize = jobs.iter().zip(&results).map(|((dir, date), result)| compare(dir, *date, result)).sum();
    println!("{count} conversations in {} folders: texts and tokens are equal", jobs.len());
}

/// A change of tokenizer_config.json.
type Change = fn(&mut Value);

/// Folders whose tokenizers put in front what their settings say.
fn tokenizer_folders(root: &Path) -> Vec<std::path::PathBuf> {
    let cases: [(&str, Change); 9] = [
        ("plain", |_| ()),
        ("llama", |settings| settings["tokenizer_class"] = json!("LlamaTokenizer")),
        ("llama-no-bos", |settings| {
            settings["tokenizer_class"] = json!("LlamaTokenizerFast");
            settings["add_bos_token"] = json!(false);
        }),
        ("llama-eos", |settings| {
            settings["tokenizer_class"] = json!("LlamaTokenizerFast");
            settings["add_eos_token"] = json!(true);
        }),
        ("class-of-the-model", |settings| {
            settings.as_object_mut().unwrap().remove("tokenizer_class");
        }),
        ("more-tokens", |settings| {
            settings["pad_token"] = json!("<unk>");
            settings["additional_special_tokens"] = json!(["the ", "<|begin_of_text|>"]);
        }),
        ("changed-tokens", |settings| {
            settings["added_tokens_decoder"]["0"]["lstrip"] = json!(true);
            settings["added_tokens_decoder"]["1"]["special"] = json!(false);
            settings["added_tokens_decoder"]["1"]["rstrip"] = json!(true);
            settings["added_tokens_decoder"]["300"] =
                json!({"content": "committee", "single_word": true, "special": false});
        }),
        ("clean-up", |settings| settings["clean_up_tokenization_spaces"] = json!(true)),
        ("split-special", |settings| settings["split_special_tokens"] = json!(true)),
    ];
    let folder = |(name, change): (&str, Change)| {
        let dir = root.join(name);
        write_tiny_llama(&dir, &TinyLlama::default()).unwrap();
        edit(&dir.join("tokenizer_config.json"), |settings| {
            // With it transformers makes a LLaMA tokenizer from a sentencepiece model.
            settings.as_object_mut().unwrap().remove("add_prefix_space");
            change(settings);
        });
        dir
    };
    let mut folders: Vec<_> = cases.into_iter().map(folder).collect();
    // Older folders name the special tokens in a file of its own.
    let legacy = root.join("special-tokens-map");
    write_tiny_llama(&legacy, &TinyLlama::default()).unwrap();
    let settings = json!({"tokenizer_class": "LlamaTokenizer", "bos_token": "<|im_end|>"});
    fs::write(legacy.join("tokenizer_config.json"), settings.to_string()).unwrap();
    let map =
        json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "unk_token": "<|endoftext|>"});
    fs::write(legacy.join("special_tokens_map.json"), map.to_string()).unwrap();
    folders.push(legacy);
    folders
}

#[test]
fn tokens_are_those_of_the_python_tokenizers() {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut folders = tokenizer_folders(root.path());
    if let Some(wheels) = wheels() {
        folders.push(smollm(&wheels, root.path()));
    }
    let texts = lines(LINES);
    let all = ["plain", "smollm2-135m-f16"];
    let some = |dir: &Path| &texts[..if all.iter().any(|name| dir.ends_with(name)) { LINES } else { FEWER_LINES }];
    let jobs: Vec<Value> = folders.iter().map(|dir| json!({"job": "encode", "dir": dir, "texts": some(dir)})).collect();
    let (_, results) = reference(&python, None, &jobs);
    for (dir, result) in folders.iter().zip(results) {
        let texts = some(dir);
        let expected = |key: &str| serde_json::from_value::<Vec<Vec<u32>>>(result[key].clone()).unwrap();
        let (plain, special) = (expected("plain"), expected("special"));
        let decoded: Vec<String> = serde_json::from_value(result["decoded"].clone()).unwrap();
        let codec = TextCodec::load(dir).unwrap();
        let mut tokens = 0;
        for (((text, plain), special), decoded) in texts.iter().zip(plain).zip(special).zip(decoded) {
            assert_eq!(codec.decode(&special).unwrap(), decoded, "{}: {text:?}", dir.display());
            assert_eq!(codec.encode_chat(text).unwrap(), plain, "{}: {text:?}", dir.display());
            let ours = codec.encode_plain(text).unwrap();
            // A text that is to be continued has no end token behind it.
            assert!(
                special.starts_with(&ours) && special.len() <= ours.len() + 1,
                "{}: {text:?} {ours:?} {special:?}",
                dir.display()
            );
            tokens += plain.len();
        }
        let name = dir.file_name().unwrap().to_string_lossy();
        println!("{name}: {} lines, {tokens} tokens are equal", texts.len());
    }
}
