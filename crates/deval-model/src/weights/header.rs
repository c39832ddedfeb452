use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use deval_report::Diagnostic;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use crate::ModelError;
use crate::files::human;

/// The longest header that loaders accept (safetensors' own limit).
const LONGEST: u64 = 100_000_000;

/// First bytes of a Git LFS pointer.
const LFS: &[u8] = b"version https://git-lfs";

/// One weight file as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// File name at the root.
    pub name: String,
    /// Bytes of the file.
    pub size: u64,
    /// Where the data begins in the file.
    pub data_start: u64,
    /// Tensors in the order of their data.
    pub tensors: Vec<Tensor>,
    /// `format` of the header's `__metadata__`: the framework that the file was saved for.
    pub format: Option<String>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from [`Shard::data_start`].
    pub begin: u64,
    /// The byte after the last.
    pub end: u64,
}

impl Tensor {
    /// Bytes of its data.
    pub fn bytes(&self) -> u64 {
        self.end - self.begin
    }
}

type Checked<T> = Result<T, Box<Diagnostic>>;

/// Reads and checks one header; the inner error is the finding.
pub(crate) fn read(path: &Path, name: &str, file: &str) -> Result<Checked<Shard>, ModelError> {
    let mut handle = File::open(path).map_err(ModelError::io("open", path))?;
    let size = handle.metadata().map_err(ModelError::io("look at", path))?.len();
    let start = read_up_to(&mut handle, 128).map_err(ModelError::io("read", path))?;
    let length = match header_length(&start, size) {
        Ok(length) => length,
        Err(finding) => return Ok(Err(Box::new(finding.in_file(file)))),
    };
    let mut text = start[8..].to_vec();
    text.truncate(length as usize);
    let rest = read_up_to(&mut handle, length - text.len() as u64).map_err(ModelError::io("read", path))?;
    text.extend(rest);
    Ok(shard(&text, name, size).map_err(|finding| Box::new(finding.in_file(file))))
}

/// Reads and checks the header of a weight file of `size` bytes that begins with `start`, as after the first range of a download.
///
/// # Errors
/// The finding, without a place; also when `start` ends before the header does.
pub fn read_bytes(start: &[u8], name: &str, size: u64) -> Checked<Shard> {
    let length = header_length(start, size)?;
    let text = start[8..].get(..length as usize).ok_or_else(|| fault("the header is not here in full"))?;
    Ok(shard(text, name, size)?)
}

fn shard(text: &[u8], name: &str, size: u64) -> Result<Shard, Diagnostic> {
    let data_start = 8 + text.len() as u64;
    let Header { tensors, format } = parse(text, size - data_start)?;
    Ok(Shard { name: name.to_owned(), size, data_start, tensors, format })
}

fn read_up_to(handle: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    handle.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fault(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("G38", message).help("fetch or save the file again; it is not what a loader expects")
}

fn header_length(start: &[u8], size: u64) -> Result<u64, Diagnostic> {
    if start.starts_with(LFS) {
        let message = "this is a Git LFS pointer, not the weights";
        return Err(fault(message).found(human(size)).help("run `git lfs pull` in the folder it came from"));
    }
    let Some(prefix) = start.first_chunk::<8>() else {
        return Err(fault("the file is too short for a safetensors header").found(human(size)));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > LONGEST {
        let message = "the header is longer than loaders accept, or this is no safetensors file";
        return Err(fault(message).found(human(length)).expected("at most 100 MB"));
    }
    if length > size.saturating_sub(8) {
        return Err(fault("the file ends within its header")
            .found(human(size))
            .expected(format!("more than {}", human(8 + length))));
    }
    if start.get(8) != Some(&b'{') || length < 2 {
        return Err(fault("the header is not a JSON object"));
    }
    Ok(length)
}

fn parse(text: &[u8], data: u64) -> Result<Header, Diagnostic> {
    let mut header: Header =
        serde_json::from_slice(text).map_err(|error| fault(format!("the header is not valid: {error}")))?;
    header.tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    let mut at = 0;
    for tensor in &header.tensors {
        check(tensor, at)?;
        at = tensor.end;
    }
    if at == data {
        return Ok(header);
    }
    let message = if at > data {
        format!("the file is cut off: {} of its weights are missing", human(at - data))
    } else {
        format!("the file has {} that belong to no tensor", human(data - at))
    };
    Err(fault(message).found(format!("{data} bytes of data")).expected(format!("{at} bytes")))
}

/// Offsets must continue where the tensor before ended, and hold exactly the elements of the shape.
fn check(tensor: &Tensor, at: u64) -> Result<(), Diagnostic> {
    let Tensor { name, dtype, shape, begin, end } = tensor;
    if begin != &at || end < begin {
        let relation =
            if *begin < at { "overlaps the tensor before it" } else { "does not follow the tensor before it" };
        let message = format!("the data of `{name}` {relation}");
        return Err(fault(message).found(format!("bytes {begin} to {end}")).expected(format!("from {at}")));
    }
    let bits = shape.iter().try_fold(dtype.bitsize() as u64, |bits, dim| bits.checked_mul(*dim as u64));
    if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != end - begin) {
        let message = format!("the data of `{name}` has not the size of its shape");
        return Err(fault(message).found(format!("{} bytes", end - begin)).expected(format!("{dtype} {shape:?}")));
    }
    Ok(())
}

/// The header's tensors and format; a map with a key twice is refused, which serde's own maps would accept in silence.
#[derive(Default)]
struct Header {
    tensors: Vec<Tensor>,
    format: Option<String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut names = HashSet::new();
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("the name `{name}` is there twice")));
            }
            if name == "__metadata__" {
                header.format = map.next_value::<Metadata>()?.format;
                continue;
            }
            let info = map.next_value().map_err(|error| A::Error::custom(in_plain_words(&name, &error)))?;
            let TensorInfo { dtype, shape, data_offsets: (begin, end) } = info;
            header.tensors.push(Tensor { name, dtype, shape, begin: begin as u64, end: end as u64 });
        }
        Ok(header)
    }
}

/// What is wrong with a tensor's entry, without the library's own names of types.
fn in_plain_words(name: &str, error: &impl fmt::Display) -> String {
    let text = error.to_string().replace(" with 3 elements", "");
    let text = text.replace("struct TensorInfo", "an object with dtype, shape and data_offsets");
    let text =
        text.replace("tuple (usize, usize)", "a list of two numbers").replace("a tuple of size 2", "two numbers");
    format!("entry `{name}`: {}", text.replace("usize", "a whole number"))
}

/// `__metadata__`, which the library reads as a map of texts and refuses otherwise.
struct Metadata {
    format: Option<String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`__metadata__` to be an object of texts")
    }

    /// The library takes null for a header without metadata.
    fn visit_unit<E: Error>(self) -> Result<Metadata, E> {
        Ok(Metadata { format: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut texts = HashMap::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            let Value::String(text) = value else {
                return Err(A::Error::custom(format!("`{key}` in `__metadata__` is {value}, not a text")));
            };
            if texts.contains_key(&key) {
                return Err(A::Error::custom(format!("`{key}` is there twice in `__metadata__`")));
            }
            texts.insert(key, text);
        }
        Ok(Metadata { format: texts.remove("format") })
    }
}
