//! A repository as the validator's container pulls it, with a tiny model in the place of the miner's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use deval_model::python_source::FOLDER;
use deval_model::tiny::{self, Kind};
use serde_json::{Map, Value, json};

use crate::PythonError;
use crate::armor::copy;

/// A model whose answers differ from question to question.
const RANDOM: Kind = Kind::Random { seed: 1 };

/// Beginnings of the names of root files that belong to a model or its tokenizer, and not to a pipeline.
const OF_A_MODEL: [&str; 11] = [
    "config.json",
    "generation_config",
    "tokenizer",
    "special_tokens_map",
    "added_tokens",
    "vocab",
    "merges",
    "chat_template",
    "adapter_",
    "pytorch_model",
    "model.",
];

/// Largest root file that is taken along.
const LARGEST: u64 = 10_000_000;

/// Settings of this project's pipeline. A slow machine must not answer less than a quick one, so the deadline is lifted.
const SETTINGS: &str = "deval_pipeline.json";
const DEADLINE: &str = "deadline_seconds";

/// The models of a repository: the one in its root, as it is with validators, and one beside it that gives always the same answer.
pub(super) fn models(repository: &Path) -> [(&'static str, PathBuf); 2] {
    [("random", repository.to_owned()), ("chain", repository.with_extension("chain"))]
}

/// Writes the repository, its sources plain or those of an obfuscated tree, and the model beside it.
pub(super) fn write(
    repository: &Path,
    shipped: &BTreeMap<String, PathBuf>,
    armored: Option<&Path>,
) -> Result<(), PythonError> {
    let inner = format!("{FOLDER}/");
    for (path, from) in shipped {
        if path.starts_with(&inner) {
            let from = armored.map_or_else(|| from.clone(), |tree| tree.join(path));
            copy(&from, &repository.join(path))?;
        }
    }
    if let Some(tree) = armored {
        runtimes(tree, repository)?;
    }
    for ((_, dir), kind) in models(repository).into_iter().zip([RANDOM, Kind::Chain]) {
        tiny::write(&dir, kind)?;
        for (path, from) in shipped.iter().filter(|(path, from)| belongs_to_the_pipeline(path, from)) {
            copy(from, &dir.join(path))?;
        }
        if knows_deadlines(shipped) {
            lift_the_deadline(&dir.join(SETTINGS))?;
        }
    }
    Ok(())
}

fn runtimes(tree: &Path, repository: &Path) -> Result<(), PythonError> {
    let list = |source| PythonError::io("list", tree)(source);
    for folder in fs::read_dir(tree).map_err(list)? {
        let folder = folder.map_err(list)?;
        if !folder.path().is_dir() || folder.file_name() == FOLDER {
            continue;
        }
        for file in fs::read_dir(folder.path()).map_err(list)? {
            let file = file.map_err(list)?;
            copy(&file.path(), &repository.join(folder.file_name()).join(file.file_name()))?;
        }
    }
    Ok(())
}

fn belongs_to_the_pipeline(path: &str, file: &Path) -> bool {
    let small = || fs::metadata(file).is_ok_and(|meta| meta.len() <= LARGEST);
    let of_a_model = OF_A_MODEL.iter().any(|start| path.starts_with(start));
    !path.contains('/') && !path.contains(".safetensors") && !of_a_model && small()
}

fn knows_deadlines(shipped: &BTreeMap<String, PathBuf>) -> bool {
    let settings = shipped.get(&format!("{FOLDER}/settings.py"));
    settings.is_some_and(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(DEADLINE)))
}

fn lift_the_deadline(path: &Path) -> Result<(), PythonError> {
    let stored = fs::read(path).ok().map_or(Some(Map::new()), |text| serde_json::from_slice(&text).ok());
    // What is no JSON object is the pipeline's to complain about.
    let Some(mut settings) = stored else { return Ok(()) };
    settings.insert(DEADLINE.into(), json!(0));
    fs::write(path, Value::from(settings).to_string()).map_err(PythonError::io("write", path))
}
