use std::collections::HashMap;
use std::fs;

use deval_eval::Dice;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;

/// Names, shapes and values.
type Model = Vec<(String, Vec<usize>, Vec<f32>)>;

const SHAPES: [(&str, &[usize]); 5] = [
    ("model.embed_tokens.weight", &[96, 128]),
    ("model.layers.0.mlp.down_proj.weight", &[128, 320]),
    ("model.layers.0.mlp.up_proj.weight", &[320, 128]),
    ("model.layers.0.self_attn.q_proj.weight", &[128, 128]),
    ("model.norm.weight", &[128]),
];

fn normal(dice: &mut Dice, count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|_| dice.normal() as f32 * scale).collect()
}

fn model(seed: u64) -> Model {
    let mut dice = Dice::new(seed, 0);
    let mut values = |shape: &[usize]| normal(&mut dice, shape.iter().product(), 0.02);
    SHAPES.iter().map(|(name, shape)| (name.to_string(), shape.to_vec(), values(shape))).collect()
}

/// The model with a difference added to each of its matrices.
fn changed(mut change: impl FnMut(&[usize], &[f32]) -> Vec<f32>) -> Model {
    let mut model = model(1);
    for (_, shape, values) in model.iter_mut().filter(|(_, shape, _)| shape.len() == 2) {
        let delta = change(shape, values);
        values.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
    }
    model
}

/// A difference with these strengths of independent directions.
fn directions(dice: &mut Dice, shape: &[usize], strengths: &[f32]) -> Vec<f32> {
    let mut delta = vec![0.0; shape[0] * shape[1]];
    for strength in strengths {
        let (u, v) = (normal(dice, shape[0], *strength), normal(dice, shape[1], 1.0));
        for (row, u) in delta.chunks_mut(shape[1]).zip(u) {
            row.iter_mut().zip(&v).for_each(|(delta, v)| *delta += u * v);
        }
    }
    delta
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn save(file: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)], dtype: Dtype, note: Option<&str>) {
    let data: Vec<_> = tensors.iter().map(|(_, _, values)| encode(values, dtype)).collect();
    let views = tensors.iter().zip(&data);
    let views = views.map(|((name, shape, _), data)| (name, TensorView::new(dtype, shape.clone(), data).unwrap()));
    let note = note.map(|text| HashMap::from([("format".to_owned(), text.to_owned())]));
    fs::write(file, safetensors::serialize(views, note).unwrap()).unwrap();
}

fn folder(model: &[(String, Vec<usize>, Vec<f32>)], dtype: Dtype) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("model.safetensors"), model, dtype, None);
    dir
}

fn between(a: &Model, b: &Model, dtype: Dtype) -> Lineage {
    compare(folder(a, dtype).path(), folder(b, dtype).path()).unwrap()
}

fn codes(lineage: &Lineage) -> Vec<String> {
    lineage.findings().into_iter().map(|finding| format!("{} {}", finding.severity, finding.code)).collect()
}

#[test]
fn the_base_is_known_in_other_files_and_under_other_headers() {
    let base = folder(&model(1), Dtype::BF16);
    let other = tempfile::tempdir().unwrap();
    let relation = || compare(other.path(), base.path()).unwrap();
    save(&other.path().join("model.safetensors"), &model(1), Dtype::BF16, None);
    let same = relation();
    assert_eq!((same.relation, same.identical_tensors, same.changed.len()), (Relation::Identical, 5, 0));
    assert_eq!((same.identical_bytes, same.cosine, same.relative_change), (same.bytes, None, None));

    save(&other.path().join("model.safetensors"), &model(1), Dtype::BF16, Some("pt"));
    assert_eq!(relation().relation, Relation::MetadataOnly);

    fs::remove_file(other.path().join("model.safetensors")).unwrap();
    save(&other.path().join("model-00001-of-00002.safetensors"), &model(1)[..2], Dtype::BF16, None);
    save(&other.path().join("model-00002-of-00002.safetensors"), &model(1)[2..], Dtype::BF16, None);
    let sharded = relation();
    assert_eq!(sharded.relation, Relation::ReShardOnly);
    assert_eq!(codes(&sharded), ["error lineage.base-model"]);
}

#[test]
fn another_element_type_is_the_base_in_both_directions_and_with_a_change_it_is_not() {
    let fine = folder(&model(1), Dtype::F32);
    for dtype in [Dtype::BF16, Dtype::F16] {
        let coarse = folder(&model(1), dtype);
        for (a, b) in [(&fine, &coarse), (&coarse, &fine)] {
            let lineage = compare(a.path(), b.path()).unwrap();
            assert_eq!((lineage.relation, lineage.other_dtype.len()), (Relation::DtypeOnly, 5));
            assert_eq!(codes(&lineage), ["error lineage.base-model"]);
            assert!(lineage.changed.iter().all(|change| change.same_values && change.cosine.unwrap() > 0.99999));
        }
        let mut trained = model(1);
        trained[1].2[7] += 0.01;
        let trained = compare(folder(&trained, dtype).path(), fine.path()).unwrap();
        assert!(!trained.relation.is_base_model());
        assert_eq!(trained.changed.iter().filter(|change| !change.same_values).count(), 1);
    }
}

#[test]
fn noise_is_told_from_training_in_every_element_type() {
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        for size in [1e-4, 1e-3, 1e-2] {
            let mut dice = Dice::new(5, 0);
            // Added with one size, and growing with the weight.
            let added = changed(|_, values| normal(&mut dice, values.len(), 0.02 * size));
            let scaled = changed(|_, values| values.iter().map(|x| x * dice.normal() as f32 * size).collect());
            for noisy in [added, scaled] {
                let lineage = between(&noisy, &model(1), dtype);
                // Noise far below the last place is rounded away.
                let expected = if lineage.changed.is_empty() { Relation::Identical } else { Relation::NoiseOnly };
                assert_eq!(lineage.relation, expected, "{dtype} {size} {:#?}", lineage.changed);
            }
        }
    }
    let mut dice = Dice::new(5, 0);
    let noisy = changed(|_, values| normal(&mut dice, values.len(), 2e-4));
    let lineage = between(&noisy, &model(1), Dtype::F32);
    assert_eq!(codes(&lineage), ["warning lineage.noise-only"]);
    assert!((lineage.relative_change.unwrap() - 0.01).abs() < 3e-4, "{:?}", lineage.relative_change);
}

#[test]
fn a_merged_adapter_shows_its_rank_even_through_rounding() {
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        for (rank, strength) in [(1, 1e-3f32), (4, 1e-3), (8, 1e-3), (8, 3e-4)] {
            let mut dice = Dice::new(6, 0);
            let merged = changed(|shape, _| directions(&mut dice, shape, &vec![strength; rank]));
            let lineage = between(&merged, &model(1), dtype);
            assert_eq!(lineage.relation, Relation::LowRank, "{dtype} {rank} {:#?}", lineage.changed);
            let found: Vec<_> = lineage.changed.iter().map(|change| change.spectrum.unwrap().rank).collect();
            assert!(found.iter().all(|found| found.abs_diff(rank) <= 1), "{dtype} {rank} {found:?}");
            assert_eq!(codes(&lineage), [""; 0]);
        }
    }
}

#[test]
fn a_few_edited_elements_are_no_training_wherever_they_lie() {
    for at in [0, 1000, 20_000, 40_959] {
        let mut edited = model(1);
        edited[2].2[at] += 0.001;
        let lineage = between(&edited, &model(1), Dtype::F16);
        assert_eq!(codes(&lineage), ["warning lineage.noise-only"], "{:#?}", lineage.changed);
    }
}

#[test]
fn training_and_strangers_are_neither() {
    let mut dice = Dice::new(7, 0);
    let strengths: Vec<f32> = (1..=128).map(|i| 3e-4 / (i as f32).sqrt()).collect();
    let trained = changed(|shape, _| directions(&mut dice, shape, &strengths));
    for dtype in [Dtype::F32, Dtype::BF16] {
        let lineage = between(&trained, &model(1), dtype);
        assert_eq!(lineage.relation, Relation::FineTuned, "{dtype} {:#?}", lineage.changed);
        assert_eq!(codes(&lineage), [""; 0]);
    }
    let stranger = between(&model(2), &model(1), Dtype::F32);
    assert_eq!(stranger.relation, Relation::Unrelated);
    assert!(stranger.cosine.unwrap().abs() < 0.02 && (stranger.relative_change.unwrap() - 2f64.sqrt()).abs() < 0.02);
    assert_eq!(codes(&stranger), ["note lineage.unrelated"]);
}

/// The model with every tensor made anew from its number and values.
fn remade(make: impl Fn(usize, &[f32]) -> Vec<f32>) -> Model {
    let model = model(1).into_iter().enumerate();
    model.map(|(at, (name, shape, values))| (name, shape, make(at, &values))).collect()
}

#[test]
fn a_factor_per_tensor_is_a_copy_in_every_element_type() {
    let same: fn(usize) -> f32 = |_| 1.0024;
    let layerwise: fn(usize) -> f32 = |at| [0.5, 2.0, 1.01, 1.0, -1.0003][at];
    let seen = |factor: f32, found: f64| (found - f64::from(factor)).abs() < 3e-3;
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        for factor in [same, layerwise] {
            // The base is what was saved, so that the copier multiplies rounded values.
            let rounded = |x: f32| match dtype {
                Dtype::BF16 => bf16::from_f32(x).to_f32(),
                Dtype::F16 => f16::from_f32(x).to_f32(),
                _ => x,
            };
            let scaled = remade(|at, values| values.iter().map(|x| rounded(*x) * factor(at)).collect());
            let lineage = between(&scaled, &model(1), dtype);
            assert_eq!(lineage.relation, Relation::Scaled, "{dtype} {:#?}", lineage.changed);
            assert_eq!(codes(&lineage), ["error lineage.base-model"]);
            for change in &lineage.changed {
                let at = SHAPES.iter().position(|(name, _)| *name == change.name).unwrap();
                assert!(seen(factor(at), change.factor.unwrap()), "{dtype} {change:?}");
            }
        }
    }
}

#[test]
fn values_that_went_through_sixteen_bits_are_a_copy() {
    let cut = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
    let casts: [fn(f32) -> f32; 3] = [|x| bf16::from_f32(x).to_f32(), |x| f16::from_f32(x).to_f32(), cut];
    for cast in casts {
        let through = remade(|_, values| values.iter().map(|x| cast(*x)).collect());
        let lineage = between(&through, &model(1), Dtype::F32);
        assert_eq!((lineage.relation, lineage.identical_tensors), (Relation::DtypeOnly, 0), "{:#?}", lineage.changed);
    }
}

#[test]
fn permuted_neurons_are_a_copy() {
    let mut dice = Dice::new(9, 0);
    let order = dice.sample(320, 320);
    assert!(!order.is_sorted());
    let mut permuted = model(1);
    permuted[2].2 = order.iter().flat_map(|row| model(1)[2].2[row * 128..(row + 1) * 128].to_vec()).collect();
    permuted[1].2 = model(1)[1].2.chunks(320).flat_map(|row| order.iter().map(|at| row[*at])).collect();
    for dtype in [Dtype::F32, Dtype::BF16] {
        let lineage = between(&permuted, &model(1), dtype);
        assert_eq!(lineage.relation, Relation::Permuted, "{dtype} {:#?}", lineage.changed);
        assert_eq!(codes(&lineage), ["error lineage.base-model"]);
        assert!(lineage.changed.len() == 2 && lineage.changed.iter().all(|change| change.permuted));
    }
    permuted[2].2[0] += 0.5;
    assert_eq!(between(&permuted, &model(1), Dtype::F32).changed.iter().filter(|change| change.permuted).count(), 1);
}

#[test]
fn permuted_neurons_are_a_copy_of_a_base_that_is_read_in_part() {
    let shape = vec![512, 256];
    let values = normal(&mut Dice::new(3, 0), 512 * 256, 0.02);
    let order = Dice::new(9, 0).sample(512, 512);
    let rows =
        |values: &[f32]| order.iter().flat_map(|row| values[row * 256..(row + 1) * 256].to_vec()).collect::<Vec<_>>();
    let one = |values: Vec<f32>| vec![("t".to_owned(), shape.clone(), values)];
    let options = Options { seed: 0, most_bytes: Some(64 << 10), most_rows: Some(32) };
    let against_part = |values: Vec<f32>, base: &[f32], dtype| {
        let (ours, base) = (folder(&one(values), dtype), folder(&one(base.to_vec()), Dtype::BF16));
        let (ours, inner) = (LocalFolder::open(ours.path()).unwrap(), LocalFolder::open(base.path()).unwrap());
        let base = Counted { inner, read: AtomicUsize::new(0), sha256: None };
        let lineage = compare_sources(&ours, &base, options, &mut |_, _| {}).unwrap();
        assert!(base.read.into_inner() < 2 * 512 * 256, "not all of it is read");
        lineage
    };
    // Columns too, as when the hidden dimension is permuted.
    let both: Vec<f32> = rows(&values).chunks(256).flat_map(|row| row.iter().rev().copied()).collect();
    let rounded: Vec<f32> = rows(&values).iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    for (copy, dtype) in [(rows(&values), Dtype::BF16), (both, Dtype::BF16), (rounded, Dtype::F32)] {
        let lineage = against_part(copy.clone(), &values, dtype);
        assert_eq!(lineage.relation, Relation::Permuted, "{:#?}", lineage.changed);
        assert_eq!(codes(&lineage), ["error lineage.base-model"]);
        let stranger = normal(&mut Dice::new(77, 0), 512 * 256, 0.02);
        assert_eq!(against_part(copy, &stranger, dtype).relation, Relation::Unrelated);
    }
    let mut dice = Dice::new(4, 0);
    let noisy = rows(&values).iter().map(|x| x + 4e-4 * dice.normal() as f32).collect();
    let moved = against_part(noisy, &values, Dtype::BF16);
    assert!(moved.changed[0].moved_rows.unwrap() > 0.9 && moved.changed[0].cosine.unwrap() < 0.1);
    assert_eq!(codes(&moved), ["warning lineage.moved-rows"], "{:?}", moved.relation);
}

#[test]
fn layers_that_changed_places_are_a_copy() {
    let shapes: [(&str, &[usize]); 3] = [
        ("mlp.up_proj.weight", &[320, 128]),
        ("self_attn.q_proj.weight", &[128, 128]),
        ("input_layernorm.weight", &[128]),
    ];
    let layers = |order: [u64; 4]| -> Model {
        let layer = |(at, seed): (usize, u64)| {
            let mut dice = Dice::new(seed, 0);
            shapes.map(|(name, shape)| {
                let mut values = normal(&mut dice, shape.iter().product(), 0.02);
                if shape.len() == 1 {
                    values.iter_mut().for_each(|x| *x += 1.0);
                }
                (format!("model.layers.{at}.{name}"), shape.to_vec(), values)
            })
        };
        order.into_iter().enumerate().flat_map(layer).collect()
    };
    let base = layers([1, 2, 3, 4]);
    for (order, moved) in [([1, 3, 2, 4], 6), ([4, 3, 2, 1], 12), ([1, 1, 3, 4], 3)] {
        for dtype in [Dtype::F32, Dtype::BF16] {
            let lineage = between(&layers(order), &base, dtype);
            assert_eq!(
                (lineage.relation, lineage.renamed.len()),
                (Relation::Renamed, moved),
                "{order:?} {:#?}",
                lineage.changed
            );
            assert_eq!(codes(&lineage), ["error lineage.base-model"]);
        }
    }
    let mut trained = layers([1, 3, 2, 4]);
    let delta = directions(&mut Dice::new(2, 0), &[320, 128], &[1e-3; 4]);
    trained[3].2.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
    let lineage = between(&trained, &base, Dtype::BF16);
    assert_eq!((lineage.relation, lineage.changed.len()), (Relation::LowRank, 1), "{:#?}", lineage.changed);
}

#[test]
fn other_names_hide_nothing() {
    let rename = |model: Model| -> Model {
        model.into_iter().map(|(name, shape, values)| (format!("x.{}", name.len()), shape, values)).collect()
    };
    let renamed = between(&rename(model(1)), &model(1), Dtype::BF16);
    assert_eq!((renamed.relation, renamed.renamed.len(), renamed.identical_tensors), (Relation::Renamed, 5, 5));
    assert_eq!(codes(&renamed), ["error lineage.base-model"]);
    assert!(renamed.missing.is_empty() && renamed.added.is_empty());
    assert!(renamed.renamed.contains(&("x.17".to_owned(), "model.norm.weight".to_owned())), "{:?}", renamed.renamed);

    let cast = compare(folder(&rename(model(1)), Dtype::F16).path(), folder(&model(1), Dtype::F32).path()).unwrap();
    assert_eq!((cast.relation, cast.renamed.len()), (Relation::DtypeOnly, 5));

    let mut dice = Dice::new(7, 0);
    let strengths: Vec<f32> = (1..=128).map(|i| 3e-4 / (i as f32).sqrt()).collect();
    let trained = rename(changed(|shape, _| directions(&mut dice, shape, &strengths)));
    assert_eq!(between(&trained, &model(1), Dtype::F32).relation, Relation::FineTuned);
    let stranger = between(&rename(model(2)), &model(1), Dtype::F32);
    assert_eq!((stranger.relation, stranger.renamed.len(), stranger.added.len()), (Relation::Unrelated, 0, 5));
}

/// What an honest miner may have: few tensors trained, little, with weight decay on the rest, saved in 16 bits.
#[test]
fn honest_training_is_no_copy() {
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        for strength in [1e-3f32, 3e-4] {
            let mut adapted = model(1);
            let delta = directions(&mut Dice::new(10, 0), &[128, 128], &[strength; 4]);
            adapted[3].2.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
            let lineage = between(&adapted, &model(1), dtype);
            assert_eq!((lineage.relation, lineage.identical_tensors), (Relation::LowRank, 4), "{dtype} {strength}");
            assert_eq!(codes(&lineage), [""; 0]);
        }
        let mut dice = Dice::new(11, 0);
        let strengths: Vec<f32> = (1..=128).map(|i| 3e-4 / (i as f32).sqrt()).collect();
        let decayed = changed(|shape, values| {
            let training = directions(&mut dice, shape, &strengths);
            values.iter().zip(training).map(|(value, step)| step - value * 1e-3).collect()
        });
        let lineage = between(&decayed, &model(1), dtype);
        assert_eq!(
            (lineage.relation, codes(&lineage).len()),
            (Relation::FineTuned, 0),
            "{dtype} {:#?}",
            lineage.changed
        );
    }
    // One unit in the last place of one element in twenty is about the least that training does in 16 bits.
    let nudged = remade(|_, values| {
        let values = values.iter().map(|x| bf16::from_f32(*x).to_bits()).enumerate();
        values.map(|(at, bits)| bf16::from_bits(bits + u16::from(at % 20 == 7)).to_f32()).collect()
    });
    let lineage = between(&nudged, &model(1), Dtype::BF16);
    assert!(!lineage.relation.is_base_model() && lineage.changed.iter().all(|change| change.factor.is_none()));
}

#[test]
fn the_numbers_are_those_of_a_plain_loop() {
    let mut other = model(1);
    other[4].2.iter_mut().enumerate().for_each(|(i, x)| *x += 0.001 * i as f32);
    let lineage = between(&other, &model(1), Dtype::F32);
    let (a, b) = (&other[4].2, &model(1)[4].2);
    let sum = |f: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>();
    let (aa, bb, ab) = (sum(|a, _| a * a), sum(|_, b| b * b), sum(|a, b| a * b));
    let [change] = &lineage.changed[..] else { panic!("one tensor was changed") };
    assert!((change.cosine.unwrap() - ab / (aa * bb).sqrt()).abs() < 1e-12);
    assert!((change.relative_change.unwrap() - (sum(|a, b| (a - b) * (a - b)) / bb).sqrt()).abs() < 1e-12);
    assert_eq!((change.changed_share, change.spectrum), (127.0 / 128.0, None));
    assert_eq!((lineage.relation, lineage.identical_tensors), (Relation::FineTuned, 4));
}

#[test]
fn tensors_of_one_side_are_named_and_a_tied_head_is_none() {
    let mut other = model(1);
    other.remove(1);
    other[2].1 = vec![64, 256];
    other.push(("model.extra".into(), vec![2], vec![0.0; 2]));
    let lineage = between(&other, &model(1), Dtype::F32);
    assert_eq!(lineage.relation, Relation::Restructured);
    assert_eq!(lineage.missing, ["model.layers.0.mlp.down_proj.weight"]);
    assert_eq!(
        (&lineage.added[..], &lineage.reshaped[..]),
        (&["model.extra".to_owned()][..], &[other[2].0.clone()][..])
    );
    assert_eq!(codes(&lineage), ["warning lineage.restructured"]);

    let mut headed = model(1);
    headed.push((HEAD.into(), headed[0].1.clone(), headed[0].2.clone()));
    assert!(between(&headed, &model(1), Dtype::F16).relation.is_base_model());
    assert!(between(&model(1), &headed, Dtype::F16).relation.is_base_model());
    headed[5].2[3] += 1.0;
    assert_eq!(between(&headed, &model(1), Dtype::F16).added, [HEAD]);
}

#[test]
fn nan_and_zeros_give_no_number_and_no_panic() {
    let mut broken = model(1);
    broken[1].2[5] = f32::NAN;
    broken[3].2.fill(f32::INFINITY);
    broken[4].2.fill(0.0);
    for (a, b) in [(&broken, &model(1)), (&model(1), &broken)] {
        let lineage = between(a, b, Dtype::F32);
        assert_eq!(lineage.changed.len(), 3);
        assert!(lineage.changed[0].cosine.unwrap() > 0.999, "the sound elements count");
        assert_eq!(lineage.changed[1].cosine, None);
        let told = codes(&lineage).contains(&"warning lineage.not-finite".to_owned());
        assert_eq!(told, std::ptr::eq(a, &broken), "those of our own side");
        let text = serde_json::to_string(&lineage).unwrap();
        assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap(), lineage);
        assert_eq!(lineage.sections()[1].table.as_ref().unwrap().rows.len(), 3);
    }
}

#[test]
fn a_part_of_the_bytes_gives_the_same_verdict() {
    let mut dice = Dice::new(8, 0);
    let noisy = changed(|_, values| normal(&mut dice, values.len(), 2e-4));
    let (noisy, base) = (folder(&noisy, Dtype::F32), folder(&model(1), Dtype::F32));
    let (noisy, base) = (LocalFolder::open(noisy.path()).unwrap(), LocalFolder::open(base.path()).unwrap());
    let options = Options { seed: 3, most_bytes: Some(40_000), most_rows: Some(32) };
    let run = || compare_sources(&noisy, &base, options, &mut |_, _| {}).unwrap();
    let lineage = run();
    assert_eq!((lineage.relation, lineage.sampled), (Relation::NoiseOnly, true));
    assert_eq!(run(), lineage);
    let mut steps = Vec::new();
    let same = compare_sources(&base, &base, options, &mut |done, all| steps.push((done, all))).unwrap();
    assert!(same.relation == Relation::Identical && same.sampled);
    assert!(steps.len() == 5 && steps[4].0 == steps[4].1 && steps.is_sorted());
}

/// A folder as if behind a network: what is read is counted.
struct Counted {
    inner: LocalFolder,
    read: AtomicUsize,
    sha256: Option<&'static str>,
}

impl TensorSource for Counted {
    fn shards(&self) -> &[crate::weights::Shard] {
        self.inner.shards()
    }

    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ModelError> {
        self.read.fetch_add(buffer.len(), Ordering::Relaxed);
        self.inner.read(shard, offset, buffer)
    }

    fn sha256(&self, _shard: usize) -> Option<&str> {
        self.sha256
    }

    fn waits(&self) -> bool {
        true
    }
}

#[test]
fn of_a_remote_base_little_is_read_and_of_equal_files_nothing() {
    let shape = vec![1024, 512];
    let large = |seed| -> Model {
        let mut dice = Dice::new(seed, 0);
        (0..4).map(|at| (format!("t{at}"), shape.clone(), normal(&mut dice, 1024 * 512, 0.02))).collect()
    };
    let mut trained = large(1);
    let delta = directions(&mut Dice::new(2, 0), &shape, &[1e-3; 4]);
    trained[0].2.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
    let (ours, base) = (folder(&trained, Dtype::BF16), folder(&large(1), Dtype::BF16));
    let source = |dir: &tempfile::TempDir, sha256| Counted {
        inner: LocalFolder::open(dir.path()).unwrap(),
        read: AtomicUsize::new(0),
        sha256,
    };
    let options = Options { seed: 0, most_bytes: Some(64 << 10), most_rows: Some(32) };
    let compare = |sha256| {
        let (ours, base) = (source(&ours, sha256), source(&base, sha256));
        let lineage = compare_sources(&ours, &base, options, &mut |_, _| {}).unwrap();
        (lineage, base.read.into_inner())
    };
    let (lineage, read) = compare(None);
    assert_eq!((lineage.relation, lineage.identical_tensors, lineage.sampled), (Relation::LowRank, 3, true));
    // 4 MiB in all: the parts of four tensors, of one of them twice, and 32 rows of it.
    assert!(read <= 5 * (64 << 10) + 32 * 1024, "{read} bytes");
    let (lineage, read) = compare(Some("the same"));
    assert_eq!((lineage.relation, lineage.sampled, read), (Relation::Identical, false, 0));
}

#[test]
fn broken_weights_are_an_error_that_names_the_file() {
    let (base, other) = (folder(&model(1), Dtype::F32), tempfile::tempdir().unwrap());
    let message = || compare(other.path(), base.path()).unwrap_err().to_string();
    assert!(message().contains("no weights"), "{}", message());
    fs::write(other.path().join("model.safetensors"), "short").unwrap();
    assert!(message().contains("model.safetensors") && message().contains("too short"), "{}", message());
}
