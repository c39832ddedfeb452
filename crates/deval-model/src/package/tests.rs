use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use sha1::Sha1;

use super::*;
use crate::config_check::tests::lay_out;

const ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

fn plan(root: &Path) -> PackagePlan {
    let (model_dir, pipeline_dir) = (root.join("weights"), root.join("pipeline/model"));
    fs::create_dir_all(&model_dir).unwrap();
    fs::create_dir_all(&pipeline_dir).unwrap();
    lay_out(&model_dir);
    fs::write(pipeline_dir.join("pipeline.py"), "from .prompts import X\n").unwrap();
    fs::write(pipeline_dir.join("prompts.py"), "X = 1\n").unwrap();
    PackagePlan {
        model_dir,
        pipeline_dir,
        coldkey_ss58: ADDRESS.into(),
        out_dir: root.join("out/package"),
        ignore: vec!["*.gguf".into()],
        model_url: "acme/judge".into(),
    }
}

fn paths(package: &Package) -> Vec<&str> {
    package.files.iter().map(|file| file.path.as_str()).collect()
}

const TREE: [&str; 8] = [
    "README.md",
    "coldkey.txt",
    "config.json",
    "model.safetensors",
    "model/pipeline.py",
    "model/prompts.py",
    "tokenizer.json",
    "tokenizer_config.json",
];

#[test]
fn the_tree_is_staged_with_linked_weights_and_true_digests() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let package = stage(&plan).unwrap();
    assert_eq!(paths(&package), TREE);
    assert_eq!((package.linked, package.copied), (1, 0));
    assert_eq!(package.bytes, package.files.iter().map(|file| file.size).sum::<u64>());
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(plan.out_dir.join("model.safetensors")), inode(plan.model_dir.join("model.safetensors")));
    assert_ne!(inode(plan.out_dir.join("config.json")), inode(plan.model_dir.join("config.json")));
    assert_eq!(fs::read_to_string(plan.out_dir.join("coldkey.txt")).unwrap(), ADDRESS);
    for file in &package.files {
        let path = plan.out_dir.join(&file.path);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, file.size);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "{}", file.path);
        let Some(sha256) = &file.sha256 else { continue };
        assert_eq!(sha256, &hex::encode(Sha256::digest(&bytes)));
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), &bytes].concat();
        assert_eq!(file.git_sha1.as_deref(), Some(hex::encode(Sha1::digest(&blob)).as_str()));
    }
    let without: Vec<_> =
        package.files.iter().filter(|file| file.sha256.is_none()).map(|file| file.path.as_str()).collect();
    assert_eq!(without, ["model.safetensors"]);
}

#[test]
fn the_blob_id_is_gits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "hello\n").unwrap();
    assert_eq!(digests::of(&path).unwrap().2, "ce013625030ba8dba906f756967f9e9ca394464a");
}

#[test]
fn equal_input_gives_an_equal_listing_and_stale_files_go() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, other) = (plan(one.path()), plan(two.path()));
    let digest = stage(&first).unwrap().listing_digest;
    assert_eq!(stage(&other).unwrap().listing_digest, digest);

    fs::write(first.out_dir.join("stale.safetensors"), "x").unwrap();
    fs::create_dir_all(one.path().join("out/.package.staging/left/over")).unwrap();
    let again = stage(&first).unwrap();
    assert_eq!((&again.listing_digest, paths(&again)), (&digest, TREE.to_vec()));
    assert!(!first.out_dir.join("stale.safetensors").exists());
    let beside: Vec<_> =
        fs::read_dir(one.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["package"]);

    fs::write(first.pipeline_dir.join("prompts.py"), "X = 2\n").unwrap();
    assert_ne!(stage(&first).unwrap().listing_digest, digest);
}

#[test]
fn what_must_not_be_published_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    for name in [".env", ".gitattributes", "optimizer.pt", "model.gguf", "id_rsa"] {
        fs::write(plan.model_dir.join(name), "x").unwrap();
    }
    for folder in [".git", ".cache", "checkpoint-1"] {
        fs::create_dir(plan.model_dir.join(folder)).unwrap();
        fs::write(plan.model_dir.join(folder).join("x.json"), "{}").unwrap();
    }
    fs::create_dir(plan.pipeline_dir.join("__pycache__")).unwrap();
    fs::write(plan.pipeline_dir.join("__pycache__/x.py"), "").unwrap();
    fs::write(plan.pipeline_dir.join("notes.txt"), "").unwrap();
    fs::write(plan.model_dir.join("coldkey.txt"), "old\n").unwrap();
    let package = stage(&plan).unwrap();
    assert_eq!(paths(&package), TREE);
    assert_eq!(package.left_out, [".env", ".gitattributes", "id_rsa", "model.gguf", "optimizer.pt"]);
    assert_eq!(fs::read_to_string(plan.out_dir.join("coldkey.txt")).unwrap(), ADDRESS);
}

#[test]
fn own_rules_come_last_and_cannot_publish_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    for name in ["model.gguf", "trainer_state.json", "notes.md", "id_rsa", "a.pt", "vocab.txt"] {
        fs::write(plan.model_dir.join(name), "x").unwrap();
    }
    fs::create_dir(plan.pipeline_dir.join("tests")).unwrap();
    fs::write(plan.pipeline_dir.join("tests/test_all.py"), "").unwrap();
    let rules = "# mine\nnotes.md\n!trainer_state.json\n!id_rsa\n!*.pt\n!.*\nmodel/tests/\n!vocab.txt\n";
    fs::write(plan.model_dir.join(".devalignore"), rules).unwrap();
    let package = stage(&plan).unwrap();
    let more = ["trainer_state.json", "vocab.txt"];
    assert_eq!(paths(&package), TREE.into_iter().chain(more).collect::<Vec<_>>());
    let out = [".devalignore", "a.pt", "id_rsa", "model.gguf", "notes.md", "model/tests/test_all.py"];
    assert_eq!(package.left_out, out);
    fs::File::create(plan.model_dir.join("train.jsonl")).unwrap().set_len(70 << 20).unwrap();
    fs::write(plan.pipeline_dir.join("prompts.json"), "{}").unwrap();
    fs::create_dir(plan.model_dir.join("onnx")).unwrap();
    fs::create_dir(plan.model_dir.join(".cache")).unwrap();
    fs::write(plan.model_dir.join("README.md"), "---\nlicense: mit\n").unwrap();
    let findings = check(&plan, &collect(&plan).unwrap(), |path| path.to_string_lossy().into()).unwrap();
    let codes: Vec<_> = findings.iter().map(|finding| finding.code.as_str()).collect();
    let left_out = ["package.pickle", "package.secret", "package.source-left-out"];
    let shipped = ["package.card", "package.unsearched", "package.folder-left-out", "package.data-left-out"];
    assert_eq!(codes, [&shipped[..], &left_out].concat());
}

#[test]
fn weights_are_copied_between_file_systems_and_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path());
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let shm = Path::new("/dev/shm");
    if device(shm).is_none_or(|other| Some(other) == device(dir.path())) {
        eprintln!("skipped: there is no second file system at {}", shm.display());
        return;
    }
    let other = tempfile::tempdir_in(shm).unwrap();
    plan.out_dir = other.path().join("package");
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    fs::File::open(plan.model_dir.join("model.safetensors")).unwrap().set_modified(long_ago).unwrap();
    let package = stage(&plan).unwrap();
    assert_eq!((package.linked, package.copied, package.copies.len()), (0, 1, 1));
    assert_eq!(package.copies[0].path, "model.safetensors");
    let [finding] = &package.findings()[..] else { panic!("one finding") };
    assert!(finding.code == "package.copied" && finding.found.is_some());
    let read = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(read(&plan.out_dir), read(&plan.model_dir));
    assert!(package.stands(&plan.out_dir, &plan.model_dir));
    let other_bytes = vec![7; read(&plan.out_dir).len()];
    fs::write(plan.out_dir.join("model.safetensors"), other_bytes).unwrap();
    assert!(!package.stands(&plan.out_dir, &plan.model_dir), "of the same size, but written to");
    plan.out_dir = dir.path().join("out/package");
    let linked = stage(&plan).unwrap();
    assert_eq!((linked.findings(), linked.listing_digest), (vec![], package.listing_digest));
}

#[test]
fn a_link_named_like_weights_publishes_nothing_but_weights() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let (inside, outside) = (plan.model_dir.join("model.safetensors"), dir.path().join("elsewhere"));
    fs::rename(&inside, &outside).unwrap();
    symlink(&outside, &inside).unwrap();
    assert_eq!(paths(&stage(&plan).unwrap()), TREE);
    fs::write(&outside, "root:x:0:0").unwrap();
    assert!(matches!(stage(&plan).unwrap_err(), ModelError::Escape { target, .. } if target.ends_with("elsewhere")));
}

#[test]
fn a_secret_stops_the_staging_and_leaves_the_old_package() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    stage(&plan).unwrap();
    fs::write(plan.pipeline_dir.join("prompts.py"), format!("TOKEN = 'hf_{}'\n", "a1".repeat(17))).unwrap();
    let error = stage(&plan).unwrap_err();
    assert!(matches!(&error, ModelError::Secret { path, .. } if path == "model/prompts.py"), "{error}");
    assert!(!error.to_string().contains("a1a1"));
    assert_eq!(fs::read_to_string(plan.out_dir.join("model/prompts.py")).unwrap(), "X = 1\n");
    assert!(!dir.path().join("out/.package.staging").exists());
}

#[test]
fn a_secret_in_the_metadata_of_weights_stops_the_staging() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let path = plan.model_dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let with = |note: &str| {
        let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
        header["__metadata__"] = serde_json::json!({"format": "pt", "note": note});
        let header = header.to_string().into_bytes();
        fs::write(&path, [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()).unwrap();
    };
    with("trained at home");
    stage(&plan).unwrap();
    for before in ["", "line\n"] {
        with(&format!("{before}hf_{}", "a1".repeat(17)));
        let error = stage(&plan).unwrap_err();
        assert!(matches!(&error, ModelError::Secret { path, .. } if path == "model.safetensors"), "{error}");
    }
    let found = check(&plan, &collect(&plan).unwrap(), |path| path.to_string_lossy().into()).unwrap();
    assert!(found[0].code == "package.secret" && found[0].is_error(), "{found:?}");
}

#[test]
fn a_stage_that_is_not_what_was_staged_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let staged = || stage(&plan).unwrap();
    let stands = |package: &Package| package.stands(&plan.out_dir, &plan.model_dir);
    assert!(stands(&staged()));
    let inside = |name: &str| plan.out_dir.join(name);
    let changes: [(&str, &dyn Fn()); 5] = [
        ("same size", &|| fs::write(inside("model/prompts.py"), "X = 2\n").unwrap()),
        ("coldkey", &|| fs::write(inside("coldkey.txt"), "5Grw").unwrap()),
        ("gone", &|| fs::remove_file(inside("config.json")).unwrap()),
        ("more", &|| fs::write(inside("model/more.py"), "").unwrap()),
        ("other weights", &|| {
            fs::copy(inside("model.safetensors"), inside("x")).unwrap();
            fs::rename(inside("x"), inside("model.safetensors")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let package = staged();
        assert!(stands(&package), "{what}");
        change();
        assert!(!stands(&package), "{what}");
    }
}

#[test]
fn links_are_resolved_within_the_model_folder_or_a_hub_cache_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path());
    let cache = dir.path().join("models--acme--base");
    fs::create_dir_all(cache.join("snapshots")).unwrap();
    fs::create_dir(cache.join("blobs")).unwrap();
    let snapshot = cache.join("snapshots/abc");
    fs::rename(&plan.model_dir, &snapshot).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::rename(snapshot.join(name), cache.join("blobs").join(name)).unwrap();
        symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
    }
    plan.model_dir = snapshot.clone();
    let package = stage(&plan).unwrap();
    assert_eq!(paths(&package), TREE);
    assert!(fs::symlink_metadata(plan.out_dir.join("config.json")).unwrap().is_file());
    assert!(fs::symlink_metadata(plan.out_dir.join("model.safetensors")).unwrap().is_file());

    fs::write(dir.path().join("elsewhere.txt"), "x").unwrap();
    symlink("../../../elsewhere.txt", snapshot.join("vocab.txt")).unwrap();
    assert!(matches!(stage(&plan).unwrap_err(), ModelError::Escape { .. }));
}

#[test]
fn weights_that_only_their_owner_can_read_become_readable() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    fs::set_permissions(plan.model_dir.join("model.safetensors"), fs::Permissions::from_mode(0o600)).unwrap();
    stage(&plan).unwrap();
    assert_eq!(fs::metadata(plan.out_dir.join("model.safetensors")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn an_own_model_card_is_kept_and_a_missing_one_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    stage(&plan).unwrap();
    let card = fs::read_to_string(plan.out_dir.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlibrary_name: transformers\n") && card.contains("\n# judge\n"), "{card}");
    assert_eq!(card::check(&plan.out_dir.join("README.md"), "README.md").unwrap(), None);
    fs::write(plan.model_dir.join("README.md"), "mine").unwrap();
    stage(&plan).unwrap();
    assert_eq!(fs::read_to_string(plan.out_dir.join("README.md")).unwrap(), "mine");
}

#[test]
fn what_cannot_be_a_submission_is_not_staged() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let staged = |change: fn(&mut PackagePlan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        stage(&plan).unwrap_err().to_string()
    };
    assert!(staged(|plan| plan.coldkey_ss58 = "5Grw".into()).contains("not an SS58 address"));
    assert!(staged(|plan| plan.ignore.push("*.safetensors".into())).contains("weights"));
    assert!(staged(|plan| plan.ignore.push("config.json".into())).contains("config.json"));
    let shard = plan.model_dir.join("model-00002-of-00002.safetensors");
    fs::copy(plan.model_dir.join("model.safetensors"), &shard).unwrap();
    assert!(staged(|plan| plan.ignore.push("model-00002*".into())).contains("model-00002-of-00002.safetensors"));
    fs::remove_file(&shard).unwrap();
    let odd = plan.model_dir.join("a\nb.txt");
    fs::write(&odd, "x").unwrap();
    assert!(staged(|_| ()).contains("control characters"));
    fs::remove_file(&odd).unwrap();
    assert!(staged(|plan| plan.out_dir = plan.model_dir.parent().unwrap().to_owned()).contains("would replace"));
    assert!(staged(|plan| plan.model_dir = "missing".into()).contains("missing"));
    assert!(plan.model_dir.join("config.json").exists());
}
