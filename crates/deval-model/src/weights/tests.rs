use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::tensor::TensorView;

use super::*;

/// A real safetensors file of f16 zeros with these tensors.
pub(crate) fn shard(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; shape.iter().product::<usize>() * 2]).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), bytes)| (name.to_string(), TensorView::new(Dtype::F16, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap()
}

/// A file with this header text and so many bytes of data.
pub(crate) fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn scan_one(bytes: &[u8]) -> Vec<Diagnostic> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    findings(dir.path())
}

fn findings(dir: &Path) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    scan(dir, dir, &mut findings).unwrap();
    findings
}

fn one(bytes: &[u8], code: &str, words: &str) {
    let found = scan_one(bytes);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, code);
    assert!(found[0].message.contains(words), "{found:?}");
    assert_eq!(found[0].place.as_ref().unwrap().file, "model.safetensors");
    assert!(found[0].help.is_some());
}

#[test]
fn a_sound_file_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), shard(&[("b", &[2, 3]), ("a", &[4])])).unwrap();
    let mut found = Vec::new();
    let weights = scan(dir.path(), dir.path(), &mut found).unwrap();
    assert_eq!(found, []);
    assert_eq!(weights.tensors()["b"], (Dtype::F16, &[2, 3][..]));
    assert!(weights.complete && weights.bytes() > 20);
}

#[test]
fn a_truncated_shard_is_found() {
    let mut bytes = shard(&[("a", &[64])]);
    bytes.truncate(bytes.len() - 28);
    one(&bytes, "G38", "cut off: 28 B");
    one(&bytes[..20], "G38", "ends within its header");
    one(&bytes[..5], "G38", "too short");
    one(b"", "G38", "too short");
}

#[test]
fn a_git_lfs_pointer_is_found() {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4976698672\n", "4e".repeat(32));
    one(pointer.as_bytes(), "G38", "Git LFS pointer");
}

#[test]
fn broken_headers_are_found() {
    let entry = |name: &str, begin: usize, end: usize| {
        format!(r#""{name}":{{"dtype":"F16","shape":[2],"data_offsets":[{begin},{end}]}}"#)
    };
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    one(&raw("[1, 2]", 0), "G38", "not a JSON object");
    one(&raw("{\"a\": }", 0), "G38", "not valid");
    one(&raw(&two(entry("a", 0, 4), entry("a", 4, 8)), 8), "G38", "`a` is there twice");
    one(&raw(&two(entry("a", 0, 4), entry("b", 2, 6)), 6), "G38", "overlaps");
    one(&raw(&two(entry("a", 0, 4), entry("b", 6, 10)), 10), "G38", "does not follow");
    one(&raw(&two(entry("a", 0, 4), entry("b", 4, 10)), 10), "G38", "size of its shape");
    one(&raw(&two(entry("a", 0, 4), entry("b", 4, 8)), 9), "G38", "belong to no tensor");
    one(&raw(&entry("a", 0, 4).replace("F16", "F17").replace("\"a\"", "{\"a\"").replace("}", "}}"), 4), "G38", "F17");
    one(&raw(r#"{"a":{"dtype":"F16","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4), "G38", "shape");
    let mut long = raw("{}", 0);
    long[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    one(&long, "G38", "longer than loaders accept");
}

/// Findings after the tiny model's header was changed.
fn tiny_with(change: impl Fn(&str) -> String) -> Vec<Diagnostic> {
    let dir = tempfile::tempdir().unwrap();
    crate::tiny::write(dir.path(), crate::tiny::Kind::Chain).unwrap();
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = change(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
    fs::write(&path, [raw(&header, 0), bytes[8 + length..].to_vec()].concat()).unwrap();
    findings(dir.path())
}

/// Each of these was loaded with transformers 4.47.1 and torch 2.4.1: those with words raise, the others load.
#[test]
fn metadata_that_loaders_refuse_is_found() {
    for (metadata, words) in [
        (r#"{"format":"pt"}"#, ""),
        (r#"{"format":"mlx"}"#, ""),
        (r#"{}"#, "has no `format`"),
        (r#"{"a":"b"}"#, "has no `format`"),
        (r#"null"#, "has no `format`"),
        (r#"{"format":"tf"}"#, "has no `format`"),
        (r#"{"format":"flax"}"#, "has no `format`"),
        (r#"{"format":"xx"}"#, "has no `format`"),
        (r#"{"format":"pt","a":1}"#, "`a` in `__metadata__` is 1, not a text"),
        (r#"{"format":"pt","a":null}"#, "not a text"),
        (r#"{"format":"pt","a":{"b":"c"}}"#, "not a text"),
        (r#"[1]"#, "expected `__metadata__` to be an object of texts"),
        (r#""x""#, "expected `__metadata__` to be an object of texts"),
    ] {
        let found = tiny_with(|header| {
            let text = header.replace(r#"{"format":"pt"}"#, metadata);
            format!("{text:width$}", width = text.len().next_multiple_of(8))
        });
        if words.is_empty() {
            assert_eq!(found, [], "{metadata}");
            continue;
        }
        assert!(found.len() == 1 && found[0].is_error() && found[0].code == "G38", "{metadata}: {found:?}");
        assert!(found[0].message.contains(words) && found[0].help.is_some(), "{metadata}: {found:?}");
    }
    // transformers loads it, but which of the two another reader takes is open.
    let twice = tiny_with(|header| header.replace(r#""format":"pt""#, r#""format":"pt","format":"tf""#));
    assert!(twice[0].message.contains("`format` is there twice"), "{twice:?}");
    let gone = tiny_with(|header| header.replace(r#""__metadata__":{"format":"pt"},"#, ""));
    assert!(gone.iter().any(|finding| finding.found.as_deref() == Some("no format")), "{gone:?}");
}

#[test]
fn unaligned_data_is_a_warning() {
    for (spaces, count) in [(0, 0), (1, 1), (2, 0), (3, 1), (8, 0)] {
        let found = tiny_with(|header| format!("{header}{}", " ".repeat(spaces)));
        assert_eq!(found.len(), count, "{spaces}: {found:?}");
        assert!(found.iter().all(|finding| !finding.is_error() && finding.message.contains("not aligned")));
    }
}

#[test]
fn entries_of_another_form_are_told_in_plain_words() {
    for entry in [
        "[]",
        "3",
        r#"{"dtype":"F16"}"#,
        r#"{"dtype":"F16","shape":[2],"data_offsets":[0]}"#,
        r#"{"dtype":"F16","shape":"x"}"#,
    ] {
        let found = scan_one(&raw(&format!(r#"{{"a":{entry}}}"#), 4));
        assert!(found[0].message.contains("entry `a`"), "{found:?}");
        for word in ["struct", "tuple", "usize", "TensorInfo"] {
            assert!(!found[0].message.contains(word), "{found:?}");
        }
    }
}

/// Each of these was loaded with transformers 4.47.1: it raises where an error is expected.
#[test]
fn indexes_that_transformers_refuses_are_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m-1.safetensors"), shard(&[("a", &[4])])).unwrap();
    let of = |index: &str| {
        fs::write(dir.path().join(index::FILE), index).unwrap();
        let found = findings(dir.path());
        assert!(found.len() <= 1 && found.iter().all(|finding| finding.help.is_some()), "{index}: {found:?}");
        found.first().map_or(String::new(), |finding| format!("{} {}", finding.severity, finding.message))
    };
    let map = r#""weight_map":{"a":"m-1.safetensors"}"#;
    assert_eq!(of(&format!(r#"{{"metadata":{{"total_size":8}},{map}}}"#)), "");
    assert_eq!(of(&format!(r#"{{"metadata":{{}},{map}}}"#)), "");
    assert_eq!(of(&format!("{{{map}}}")), "error the index cannot be read: `metadata` is missing");
    for metadata in ["null", "[]", r#""x""#] {
        let found = of(&format!(r#"{{"metadata":{metadata},{map}}}"#));
        assert_eq!(found, "error the index cannot be read: `metadata` is not an object", "{metadata}");
    }
    assert_eq!(of("[1]"), "error the index cannot be read: it is not a JSON object");
    assert!(of(r#"{"metadata":{},"weight_map":{"a":1}}"#).starts_with("error the index cannot be read: `a` is put"));
    for total in ["9", r#""8""#, "null"] {
        let found = of(&format!(r#"{{"metadata":{{"total_size":{total}}},{map}}}"#));
        assert!(found.starts_with("warning `metadata.total_size`"), "{total}: {found}");
    }
    let twice = of(r#"{"metadata":{},"weight_map":{"a":"m-2.safetensors","a":"m-1.safetensors"}}"#);
    assert!(twice.starts_with("warning the key `a` is there twice"), "{twice}");
}

#[test]
fn a_folder_without_weights_says_where_they_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let help = || {
        let found = findings(dir.path());
        assert_eq!((found.len(), found[0].code.as_str()), (1, "G13"));
        found[0].help.clone().unwrap()
    };
    assert!(help().contains("save_pretrained"));
    fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(help().contains("pickle"));
    fs::create_dir(dir.path().join("weights")).unwrap();
    fs::write(dir.path().join("weights/model.safetensors"), "x").unwrap();
    assert!(help().contains("`weights/`"));
    fs::write(dir.path().join("model.SAFETENSORS"), "x").unwrap();
    assert!(help().contains("capitals"));
}

#[test]
fn folders_and_dead_links_named_like_weights_are_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), shard(&[("a", &[4])])).unwrap();
    fs::create_dir(dir.path().join("old.safetensors")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("x.safetensors")).unwrap();
    let codes: Vec<_> = findings(dir.path()).into_iter().map(|f| (f.code, f.place.unwrap().file)).collect();
    assert_eq!(codes, [("G27".into(), "old.safetensors".to_string()), ("G27".into(), "x.safetensors".to_string())]);
}

#[test]
fn the_index_is_held_against_the_shards() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("model-00001-of-00002.safetensors", &shard(&[("a", &[4])]));
    write("model-00002-of-00002.safetensors", &shard(&[("b", &[4])]));
    let messages = || findings(dir.path()).into_iter().map(|finding| finding.message).collect::<Vec<_>>().join("; ");
    assert!(messages().contains("neither model.safetensors nor an index"));

    let index = |a: &str, b: &str| {
        let map = format!(r#"{{"metadata":{{"total_size":16}},"weight_map":{{"a":"{a}","b":"{b}"}}}}"#);
        fs::write(dir.path().join(index::FILE), map).unwrap();
    };
    index("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    assert_eq!(messages(), "");
    index("model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors");
    assert!(messages().contains("(2 such tensors)"));
    index("model-00001-of-00002.safetensors", "model-00003-of-00003.safetensors");
    assert!(messages().contains("names `model-00003-of-00003.safetensors`"), "{}", messages());
    assert!(messages().contains("`model-00002-of-00002.safetensors` is not in the index"));
    write(index::FILE, b"{}");
    assert!(messages().contains("cannot be read"));
    fs::remove_file(dir.path().join(index::FILE)).unwrap();
    write("model.safetensors", &shard(&[("c", &[4])]));
    assert!(messages().contains("which no loader reads"));
    index("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    assert!(messages().contains("model.safetensors lies beside an index"), "{}", messages());
}

#[test]
fn the_same_tensor_twice_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("consolidated.safetensors"), shard(&[("a", &[4])])).unwrap();
    fs::write(dir.path().join("model.safetensors"), shard(&[("a", &[4])])).unwrap();
    let found = findings(dir.path());
    assert!(found[0].message.contains("also in another weight file"), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_bytes_give_findings_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..200) {
        scan_one(&bytes);
        scan_one(&[&length.to_le_bytes()[..], b"{\"a\":", &bytes].concat());
    }

    #[test]
    fn what_the_library_writes_is_read_back(shapes in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 1..6)) {
        let names: Vec<String> = (0..shapes.len()).map(|i| format!("t{i}")).collect();
        let tensors: Vec<_> = names.iter().zip(&shapes).map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        prop_assert_eq!(scan_one(&shard(&tensors)), []);
    }

    #[test]
    fn headers_keep_name_type_shape_and_place(
        tensors in prop::collection::btree_map("\\PC{0,12}", (0usize..5, prop::collection::vec(0usize..5, 0..4)), 0..6),
        note in prop::option::of("\\PC{0,20}"),
    ) {
        let dtypes = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::I64, Dtype::U8];
        let size = |dtype: Dtype, shape: &[usize]| shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let tensors: BTreeMap<_, _> = tensors.into_iter().filter(|(name, _)| name != "__metadata__").collect();
        let zeros = vec![0; 4 * 4 * 4 * 8];
        let views = tensors.iter().map(|(name, (dtype, shape))| {
            let bytes = &zeros[..size(dtypes[*dtype], shape)];
            (name, TensorView::new(dtypes[*dtype], shape.clone(), bytes).unwrap())
        });
        let format = note.clone();
        let metadata = note.map(|note| std::collections::HashMap::from([("format".to_owned(), note)]));
        let file = safetensors::serialize(views, metadata).unwrap();
        let read = read_header_bytes(&file, "x", file.len() as u64).unwrap();
        prop_assert_eq!(&read.format, &format);
        prop_assert_eq!(read.tensors.len(), tensors.len());
        prop_assert_eq!(read.data_start + read.tensors.iter().map(Tensor::bytes).sum::<u64>(), file.len() as u64);
        for tensor in read.tensors {
            let (dtype, shape) = &tensors[&tensor.name];
            prop_assert_eq!((tensor.dtype, &tensor.shape), (dtypes[*dtype], shape));
            prop_assert_eq!(tensor.bytes() as usize, size(tensor.dtype, shape));
        }
        // Cut anywhere, it is refused and not misread.
        let cut = file.len() / 2;
        prop_assert!(read_header_bytes(&file[..cut], "x", cut as u64).is_err());
    }
}
