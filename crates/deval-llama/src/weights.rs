//! Memory-mapped safetensors of a model directory, one file or the shards of an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde::Deserialize;

use crate::LlamaError;
use crate::files::read_json;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a model directory, read on demand.
pub struct Weights {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Tensor name to shard.
    routes: BTreeMap<String, usize>,
}

struct Shard {
    path: PathBuf,
    map: MmapedSafetensors,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names, in this order of preference
    /// as transformers has it. Only the headers are read.
    ///
    /// # Errors
    /// Neither file, an index that points outside the directory, a shard that is truncated or not safetensors.
    pub fn open(dir: &Path) -> Result<Self, LlamaError> {
        if dir.join(SINGLE).exists() {
            return Self::single(dir);
        }
        if !dir.join(INDEX).exists() {
            return Err(LlamaError::weights(dir, format!("neither {SINGLE} nor {INDEX} is there")));
        }
        Self::sharded(dir)
    }

    fn single(dir: &Path) -> Result<Self, LlamaError> {
        let shard = Shard::open(dir.join(SINGLE))?;
        let routes = shard.map.tensors().into_iter().map(|(name, _)| (name, 0)).collect();
        Ok(Self { dir: dir.to_owned(), shards: vec![shard], routes })
    }

    fn sharded(dir: &Path) -> Result<Self, LlamaError> {
        let path = dir.join(INDEX);
        let index: Index = read_json(&path)?;
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(file) =
            files.iter().find(|file| Path::new(file).file_name().is_none_or(|name| name != file.as_str()))
        {
            return Err(LlamaError::weights(&path, format!("{file:?} is not a plain file name")));
        }
        let shards = files.iter().map(|file| Shard::open(dir.join(file))).collect::<Result<_, _>>()?;
        let order: BTreeMap<&String, usize> = files.iter().enumerate().map(|(place, file)| (*file, place)).collect();
        let routes = index.weight_map.iter().map(|(name, file)| (name.clone(), order[file])).collect();
        Ok(Self { dir: dir.to_owned(), shards, routes })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }

    /// A tensor as f32 on the CPU.
    ///
    /// # Errors
    /// The tensor is absent, has another shape than `expected`, or is not F32, F16 or BF16.
    pub fn load(&self, name: &str, expected: &[usize]) -> Result<Tensor, LlamaError> {
        let missing = |path: &Path| LlamaError::MissingTensor {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: expected.to_vec(),
        };
        let shard = self.routes.get(name).map(|place| &self.shards[*place]).ok_or_else(|| missing(&self.dir))?;
        let view = shard.map.get(name).map_err(|_| missing(&shard.path))?;
        if view.shape() != expected {
            return Err(LlamaError::TensorShape {
                path: shard.path.clone(),
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: view.shape().to_vec(),
            });
        }
        shard.load(name, view.dtype())
    }

    /// A tensor as f32 on the CPU, whatever its shape.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn load_any_shape(&self, name: &str) -> Result<Tensor, LlamaError> {
        let shape = self.routes.get(name).and_then(|place| self.shards[*place].map.get(name).ok());
        let shape = shape.map(|view| view.shape().to_vec()).unwrap_or_default();
        self.load(name, &shape)
    }

    /// Type on disk of a tensor, in the spelling of safetensors (`F16`), or `None` when it is absent.
    pub fn dtype(&self, name: &str) -> Option<String> {
        let view = self.shards[*self.routes.get(name)?].map.get(name).ok()?;
        Some(format!("{:?}", view.dtype()))
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, LlamaError> {
        #[expect(unsafe_code, reason = "a memory map; model files are not changed while the workbench reads them")]
        let map = unsafe { MmapedSafetensors::new(&path) };
        match map {
            Ok(map) => Ok(Self { path, map }),
            Err(error) => Err(LlamaError::weights(&path, format!("not a readable safetensors file: {error}"))),
        }
    }

    fn load(&self, name: &str, dtype: Dtype) -> Result<Tensor, LlamaError> {
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let (path, name) = (self.path.clone(), name.to_owned());
            return Err(LlamaError::TensorType { path, name, found: format!("{dtype:?}") });
        }
        Ok(self.map.load(name, &Device::Cpu)?.to_dtype(DType::F32)?)
    }
}
