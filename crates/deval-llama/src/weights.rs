//! Memory-mapped safetensors of a model directory, one file or the shards of an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
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
    bytes: u64,
    map: MmapedSafetensors,
}

/// Type of weights on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightType {
    F32,
    F16,
    Bf16,
}

impl WeightType {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// The weights as numbers.
    pub(crate) fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = bytes.as_chunks::<2>().0.iter();
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Self::F16 => pairs.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Self::Bf16 => pairs.map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        }
    }
}

/// A tensor as it lies in its file.
pub(crate) struct WeightView<'a> {
    /// Type of its numbers.
    pub(crate) kind: WeightType,
    /// The numbers, row by row, little-endian.
    pub(crate) bytes: &'a [u8],
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
            return Err(LlamaError::weights(
                &path,
                format!("{file:?} is not a plain file name, expected one in this folder"),
            ));
        }
        if let Some(file) = files.iter().find(|file| !dir.join(file).exists()) {
            let message = format!("it names {file:?}, which is not in this folder; copy it, or save the model anew");
            return Err(LlamaError::weights(&path, message));
        }
        let shards = files.iter().map(|file| Shard::open(dir.join(file))).collect::<Result<_, _>>()?;
        let order: BTreeMap<&String, usize> = files.iter().enumerate().map(|(place, file)| (*file, place)).collect();
        let routes = index.weight_map.iter().map(|(name, file)| (name.clone(), order[file])).collect();
        Ok(Self { dir: dir.to_owned(), shards, routes })
    }

    /// Size of all files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }

    /// A tensor as it lies in its file.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub(crate) fn view(&self, name: &str, expected: &[usize]) -> Result<WeightView<'_>, LlamaError> {
        let shard = self.shard(name, expected)?;
        let view = shard.map.get(name).map_err(|_| missing(&shard.path, name, expected))?;
        let (path, name) = (shard.path.clone(), name.to_owned());
        if view.shape() != expected {
            let (expected, found) = (expected.to_vec(), view.shape().to_vec());
            return Err(LlamaError::TensorShape { path, name, expected, found });
        }
        match WeightType::of(view.dtype()) {
            Some(kind) => Ok(WeightView { kind, bytes: view.data() }),
            None => Err(LlamaError::TensorType { path, name, found: format!("{:?}", view.dtype()) }),
        }
    }

    /// A tensor in its own type on a device.
    ///
    /// # Errors
    /// As [`Weights::load`], and those of the device.
    pub(crate) fn tensor(&self, name: &str, expected: &[usize], device: &Device) -> Result<Tensor, LlamaError> {
        self.view(name, expected)?;
        Ok(self.shard(name, expected)?.map.load(name, device)?)
    }

    fn shard(&self, name: &str, expected: &[usize]) -> Result<&Shard, LlamaError> {
        self.routes.get(name).map(|place| &self.shards[*place]).ok_or_else(|| missing(&self.dir, name, expected))
    }

    /// A tensor as f32 on the CPU.
    ///
    /// # Errors
    /// The tensor is absent, has another shape than `expected`, or is not F32, F16 or BF16.
    pub fn load(&self, name: &str, expected: &[usize]) -> Result<Tensor, LlamaError> {
        Ok(self.tensor(name, expected, &Device::Cpu)?.to_dtype(DType::F32)?)
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
        let bytes = match fs::metadata(&path) {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Err(LlamaError::weights(&path, "not a file, expected safetensors")),
            Err(error) => return Err(LlamaError::weights(&path, format!("{error}; expected safetensors"))),
        };
        #[expect(unsafe_code, reason = "a memory map; model files are not changed while the workbench reads them")]
        let map = unsafe { MmapedSafetensors::new(&path) };
        match map {
            Ok(map) => Ok(Self { path, bytes, map }),
            Err(error) => Err(LlamaError::weights(&path, format!("not a readable safetensors file: {error}"))),
        }
    }
}

fn missing(path: &Path, name: &str, expected: &[usize]) -> LlamaError {
    LlamaError::MissingTensor { path: path.to_owned(), name: name.to_owned(), expected: expected.to_vec() }
}
