//! How a directory in sentence-transformers' layout makes one vector out of the hidden states.
//!
//! Mirrors sentence-transformers `SentenceTransformer._load_sbert_model` and `models/Pooling.py`.

use std::path::{Component, Path, PathBuf};

use candle_core::Tensor;
use serde::Deserialize;

use crate::LlamaError;
use crate::files::read_json_if_present;

const POOLING_DIR: &str = "1_Pooling";

/// From the hidden states of a text's tokens to its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    FirstToken,
    Mean,
}

impl Pooling {
    /// `(tokens, hidden)` to `(hidden)`.
    pub(super) fn apply(self, states: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::FirstToken => states.get(0),
            Self::Mean => states.mean(0),
        }
    }
}

/// Where the encoder lies and how its output is pooled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Modules {
    pub(super) encoder: PathBuf,
    pub(super) pooling: Pooling,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    class: String,
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default, rename = "pooling_mode_cls_token")]
    first_token: bool,
    #[serde(default, rename = "pooling_mode_mean_tokens")]
    mean: bool,
    #[serde(default, rename = "pooling_mode_max_tokens")]
    max: bool,
    #[serde(default, rename = "pooling_mode_mean_sqrt_len_tokens")]
    mean_by_root: bool,
    #[serde(default, rename = "pooling_mode_weightedmean_tokens")]
    weighted_mean: bool,
    #[serde(default, rename = "pooling_mode_lasttoken")]
    last_token: bool,
}

impl Modules {
    /// Follows `modules.json`. Without it the encoder lies in `dir` and is pooled as `1_Pooling` says; without that
    /// too, by its first token, as AnglE does.
    pub(super) fn load(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join("modules.json");
        let Some(modules) = read_json_if_present::<Vec<Module>>(&path)? else {
            let pooling = load_pooling(&dir.join(POOLING_DIR))?.unwrap_or(Pooling::FirstToken);
            return Ok(Self { encoder: dir.to_owned(), pooling });
        };
        let classes: Vec<&str> = modules.iter().map(Module::name).collect();
        // Normalize comes last and changes only the length, which the cosine does not see.
        let (["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) = classes[..] else {
            let message = format!("modules {classes:?} are not supported, expected Transformer, Pooling, Normalize");
            return Err(LlamaError::config(&path, message));
        };
        let inside = |module: &Module| module.inside(dir).map_err(|message| LlamaError::config(&path, message));
        let config = inside(&modules[1])?;
        let pooling = load_pooling(&config)?
            .ok_or_else(|| LlamaError::config(&config, "modules.json names this module, but it has no config.json"))?;
        Ok(Self { encoder: inside(&modules[0])?, pooling })
    }
}

impl Module {
    /// The class without its Python module.
    fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    fn inside(&self, dir: &Path) -> Result<PathBuf, String> {
        let plain = Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_)));
        if plain { Ok(dir.join(&self.path)) } else { Err(format!("path {:?} leaves the directory", self.path)) }
    }
}

fn load_pooling(dir: &Path) -> Result<Option<Pooling>, LlamaError> {
    let path = dir.join("config.json");
    let Some(config) = read_json_if_present::<PoolingConfig>(&path)? else { return Ok(None) };
    let others = [config.max, config.mean_by_root, config.weighted_mean, config.last_token];
    match (config.first_token, config.mean, others.contains(&true)) {
        (true, false, false) => Ok(Some(Pooling::FirstToken)),
        (false, true, false) => Ok(Some(Pooling::Mean)),
        _ => Err(LlamaError::config(&path, "expected exactly one pooling mode, cls_token or mean_tokens")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn write(dir: &Path, file: &str, content: &Value) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }

    fn modules(parts: &[(&str, &str)]) -> Value {
        let module = |(class, path): &(&str, &str)| json!({"type": format!("some.models.{class}"), "path": path});
        parts.iter().map(module).collect()
    }

    #[test]
    fn the_modules_say_where_the_encoder_lies_and_how_it_is_pooled() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Modules::load(dir.path()).unwrap();
        assert_eq!(load(), Modules { encoder: dir.path().into(), pooling: Pooling::FirstToken });
        write(dir.path(), "1_Pooling/config.json", &json!({"pooling_mode_mean_tokens": true}));
        assert_eq!(load(), Modules { encoder: dir.path().into(), pooling: Pooling::Mean });

        write(dir.path(), "2_P/config.json", &json!({"pooling_mode_cls_token": true, "include_prompt": true}));
        let parts = [("Transformer", "0_T"), ("Pooling", "2_P"), ("Normalize", "2_Normalize")];
        write(dir.path(), "modules.json", &modules(&parts));
        assert_eq!(load(), Modules { encoder: dir.path().join("0_T"), pooling: Pooling::FirstToken });
        write(dir.path(), "modules.json", &modules(&[("Transformer", ""), ("Pooling", "1_Pooling")]));
        assert_eq!(load(), Modules { encoder: dir.path().into(), pooling: Pooling::Mean });
    }

    #[test]
    fn modules_that_change_the_direction_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cases = [
            (modules(&[("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]), "Dense"),
            (modules(&[("Transformer", "")]), "Transformer"),
            (modules(&[("Transformer", "../other"), ("Pooling", "p")]), "leaves the directory"),
            (modules(&[("Transformer", ""), ("Pooling", "/etc")]), "leaves the directory"),
            (modules(&[("Transformer", ""), ("Pooling", "absent")]), "no config.json"),
            (json!([]), "expected Transformer"),
            (json!({}), "invalid type"),
        ];
        write(dir.path(), "p/config.json", &json!({"pooling_mode_mean_tokens": true}));
        for (content, expected) in cases {
            write(dir.path(), "modules.json", &content);
            let message = Modules::load(dir.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{content}: {message}");
        }
    }

    #[test]
    fn one_mode_alone_can_be_computed() {
        let dir = tempfile::tempdir().unwrap();
        for modes in [vec![], vec!["cls_token", "mean_tokens"], vec!["mean_tokens", "max_tokens"], vec!["lasttoken"]] {
            let config: serde_json::Map<String, Value> =
                modes.iter().map(|mode| (format!("pooling_mode_{mode}"), json!(true))).collect();
            write(dir.path(), "1_Pooling/config.json", &Value::Object(config));
            let message = Modules::load(dir.path()).unwrap_err().to_string();
            assert!(message.contains("exactly one"), "{modes:?}: {message}");
        }
    }
}
