use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::*;
use crate::golden;
use crate::weights::tests::{raw, shard};

fn digest(dir: &Path) -> Result<WeightsDigest, ModelError> {
    digest_weights(dir, None, &mut |_, _| {})
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Lays out the entries of a vector.
fn lay_out(dir: &Path, entries: &[serde_json::Value]) {
    for entry in entries {
        let path = dir.join(entry["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = entry["symlink"].as_str() {
            symlink(target, path).unwrap();
        } else if let Some(text) = entry["hex"].as_str() {
            fs::write(path, hex::decode(text).unwrap()).unwrap();
        } else {
            let byte = entry["fill_byte"].as_u64().unwrap() as u8;
            fs::write(path, vec![byte; entry["length"].as_u64().unwrap() as usize]).unwrap();
        }
    }
}

#[test]
fn golden_vectors_agree() {
    golden::each("model_hash", |input, expected| {
        let dir = tempfile::tempdir().unwrap();
        lay_out(dir.path(), input["entries"].as_array().unwrap());
        match (digest(dir.path()), expected["error"].as_str()) {
            (Err(ModelError::NotAFile(_)), Some("IsADirectoryError")) => {}
            (Ok(digest), None) => {
                assert_eq!(digest.model_hash, expected["sha256"].as_str().unwrap());
                let order: Vec<_> =
                    digest.files.iter().map(|file| serde_json::Value::from(file.name.as_str())).collect();
                assert_eq!(&order, expected["order"].as_array().unwrap());
            }
            (outcome, error) => panic!("{outcome:?} where upstream has {error:?}"),
        }
    });
}

#[test]
fn files_larger_than_a_block_are_digested_one_by_one_and_together() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = [1_500_000usize, 524_288, 0, 1_048_577]
        .iter()
        .map(|len| (0..*len).map(|i| (i * 7 % 251) as u8).collect())
        .collect();
    for (number, bytes) in contents.iter().enumerate() {
        fs::write(dir.path().join(format!("{number}.safetensors")), bytes).unwrap();
    }
    let mut steps = Vec::new();
    let digest = digest_weights(dir.path(), None, &mut |done, total| steps.push((done, total))).unwrap();
    assert_eq!(digest.model_hash, sha256(&contents.concat()));
    for (file, bytes) in digest.files.iter().zip(&contents) {
        assert_eq!((file.size, &file.sha256), (bytes.len() as u64, &sha256(bytes)));
    }
    let ends: Vec<_> = (1..=4).map(|files| sha256(&contents[..files].concat())).collect();
    assert_eq!(
        digest.files.iter().map(|file| &file.stream_sha256).collect::<Vec<_>>(),
        ends.iter().collect::<Vec<_>>()
    );
    let offsets: Vec<_> = digest.files.iter().map(|file| file.offset).collect();
    assert_eq!(offsets, [0, 1_500_000, 2_024_288, 2_024_288]);
    assert_eq!(steps.last(), Some(&(3_072_865, 3_072_865)));
    assert!(steps.is_sorted());
}

#[test]
fn whoever_hashes_a_file_the_digests_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // More blocks than the pool has, and files that begin within a SHA-256 block of the model's stream.
    let sizes = [5_000_001usize, 7_000_003, 1, 0, 262_144, 3_999_999, 12_345, 6_000_000];
    for (number, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..*size).map(|i| (i * (number + 3) % 253) as u8).collect();
        fs::write(dir.path().join(format!("{number}.safetensors")), bytes).unwrap();
    }
    let content = |number: usize| fs::read(dir.path().join(format!("{number}.safetensors"))).unwrap();
    let files: Vec<_> = (0..sizes.len()).map(|number| sha256(&content(number))).collect();
    let model = sha256(&(0..sizes.len()).flat_map(content).collect::<Vec<_>>());
    for _ in 0..20 {
        let found = digest(dir.path()).unwrap();
        assert_eq!(found.model_hash, model);
        assert_eq!(found.files.into_iter().map(|file| file.sha256).collect::<Vec<_>>(), files);
    }
}

#[test]
fn one_file_has_the_model_hash_as_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), raw("{}", 0)).unwrap();
    let digest = digest(dir.path()).unwrap();
    assert_eq!(digest.model_hash, digest.files[0].sha256);
    assert_eq!(digest.model_hash, sha256(&raw("{}", 0)));
}

#[test]
fn nan_infinity_and_zeros_are_counted_by_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let f32s: Vec<u8> = [1.0, f32::NAN, f32::NEG_INFINITY, -0.0].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
    let bf16: Vec<u8> = [0x7f80u16, 0x7fc1, 0x3f80, 0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let f16: Vec<u8> = [0x7c00u16, 0xfc01, 0x3c00, 0x8000].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = |dtype, bytes| TensorView::new(dtype, vec![4], bytes).unwrap();
    let zeros = [0; 8];
    let ones = [0x00, 0x3c].repeat(4);
    let tensors = [
        ("a", view(Dtype::F32, &f32s)),
        ("b", view(Dtype::BF16, &bf16)),
        ("c", view(Dtype::F16, &f16)),
        ("d", view(Dtype::F16, &zeros)),
        ("e", view(Dtype::F16, &ones)),
    ];
    fs::write(dir.path().join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    let health = digest(dir.path()).unwrap().health;
    let seen: Vec<_> =
        health.tensors.iter().map(|t| (t.name.as_str(), t.counts.nan, t.counts.inf, t.counts.zero)).collect();
    assert_eq!(seen, [("a", 1, 1, 1), ("b", 1, 1, 1), ("c", 1, 1, 1), ("d", 0, 0, 4)]);
    assert_eq!(health.totals, Counts { elements: 20, nan: 3, inf: 3, zero: 7 });
    let findings = health.findings();
    let codes: Vec<_> = findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["model.not-finite", "model.not-finite", "model.not-finite", "model.zeros"]);
}

#[test]
fn a_tensor_has_the_digest_of_its_bytes_wherever_it_lies() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data: Vec<u8> = (0..1_200_000).map(|i| (i * 7 % 251) as u8).collect();
    let view = |shape: &[usize]| TensorView::new(Dtype::BF16, shape.to_vec(), &data).unwrap();
    let small = TensorView::new(Dtype::F32, vec![1], &data[..4]).unwrap();
    let save = |dir: &Path, name: &str, tensors: Vec<(&str, TensorView<'_>)>| {
        fs::write(dir.join(name), safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    save(one.path(), "model.safetensors", vec![("big", view(&[600, 1000])), ("small", small.clone())]);
    save(two.path(), "a.safetensors", vec![("small", small)]);
    save(two.path(), "b.safetensors", vec![("big", view(&[1000, 600]))]);
    fs::write(two.path().join("c.safetensors"), "broken").unwrap();
    let (one, two) = (digest(one.path()).unwrap(), digest(two.path()).unwrap());
    let find = |digest: &WeightsDigest, name| digest.tensors.iter().find(|tensor| tensor.name == name).unwrap().clone();
    let big = find(&one, "big");
    assert_eq!((big.dtype.as_str(), &big.shape[..], big.bytes), ("BF16", &[600, 1000][..], 1_200_000));
    assert_eq!(big.blake3, blake3::hash(&data).to_hex().to_string());
    assert_eq!(find(&two, "big").blake3, big.blake3);
    assert_eq!(TensorDigest { file: "model.safetensors".into(), ..find(&two, "small") }, find(&one, "small"));
    assert_eq!((one.tensors.len(), two.tensors.len()), (2, 2));
}

#[test]
fn the_explanation_names_what_entered_and_what_did_not() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.safetensors", "a.safetensors", "B.SAFETENSORS", "config.json"] {
        fs::write(dir.path().join(name), raw("{}", 0)).unwrap();
    }
    fs::create_dir(dir.path().join("old")).unwrap();
    fs::write(dir.path().join("c.safetensors"), shard(&[("x", &[2, 3][..]), ("y", &[4])])).unwrap();
    let digest = self::digest(dir.path()).unwrap();
    let explanation = digest.explain(dir.path()).unwrap();
    let mut end = 0;
    for piece in &explanation.pieces {
        let file = digest.files.iter().find(|file| file.name == piece.file).unwrap();
        assert_eq!((piece.offset, piece.file_offset), (end, end - file.offset), "no gap: {piece:?}");
        end += piece.bytes;
    }
    assert_eq!(end, digest.bytes);
    let whats: Vec<_> = explanation.pieces.iter().map(|piece| piece.what.clone()).collect();
    let tensor =
        |name: &str, shape: &[usize]| Content::Tensor { name: name.into(), dtype: "F16".into(), shape: shape.into() };
    let [file, length, header] = [Content::File, Content::HeaderLength, Content::Header];
    assert_eq!(whats, [file.clone(), file, length, header, tensor("x", &[2, 3]), tensor("y", &[4])]);
    let text = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), explanation);

    let sections = explanation.sections(&digest);
    let rows = |at: usize| sections[at].table.as_ref().unwrap().rows.clone();
    assert_eq!(rows(0)[1][..4], ["b.safetensors", "10", "0", "10"]);
    assert_eq!(rows(0).last().unwrap()[3..], ["20", "2 tensors, x to y"]);
    assert_eq!(rows(1)[2], ["c.safetensors".to_owned(), digest.model_hash.clone()]);
    assert_eq!(rows(2).iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["B.SAFETENSORS", "config.json", "old"]);
    assert!(rows(2)[0][1].contains("capitals") && rows(2)[2][1].contains("folder"));
}

#[test]
fn elements_cut_by_a_block_border_are_counted_once() {
    // The odd header length puts every element across an odd offset, so that the border at 512 KiB cuts one.
    let count = 600_000;
    let header = format!(r#"{{"a":{{"dtype":"F16","shape":[{count}],"data_offsets":[0,{}]}}}} "#, count * 2);
    let odd = if header.len() % 2 == 0 { header + " " } else { header };
    let mut bytes = raw(&odd, 0);
    bytes.extend([0xff, 0xff].repeat(count));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let counts = Counts { elements: count as u64, nan: count as u64, inf: 0, zero: 0 };
    assert_eq!(digest(dir.path()).unwrap().health.totals, counts);
}

fn age(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn the_cache_spares_an_unchanged_file_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let cache = dir.path().join("cache/digests.json");
    let run = || digest_weights(dir.path(), Some(&cache), &mut |_, _| {}).unwrap();
    fs::write(&path, raw("{}", 0)).unwrap();
    let soon = SystemTime::now() + Duration::from_secs(60);
    fs::File::options().write(true).open(&path).unwrap().set_modified(soon).unwrap();
    assert!(!run().from_cache);
    assert!(!cache.exists(), "a file just written is not trusted yet");

    age(&path, 60);
    let first = run();
    let second = run();
    assert!(!first.from_cache && second.from_cache);
    assert_eq!(WeightsDigest { from_cache: false, ..second }, first);

    fs::write(&path, raw("{} ", 0)).unwrap();
    age(&path, 50);
    let changed = run();
    assert!(!changed.from_cache && changed.model_hash != first.model_hash);

    fs::write(&cache, "{").unwrap();
    assert!(!run().from_cache, "a damaged cache is no cache");
}

#[test]
fn a_dead_link_and_a_missing_folder_are_errors_that_name_the_path() {
    let dir = tempfile::tempdir().unwrap();
    symlink("nowhere", dir.path().join("x.safetensors")).unwrap();
    let message = digest(dir.path()).unwrap_err().to_string();
    assert!(message.contains("x.safetensors"), "{message}");
    let message = digest(&dir.path().join("missing")).unwrap_err().to_string();
    assert!(message.contains("missing"), "{message}");
}
