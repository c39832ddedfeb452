use std::fs;

use deval_report::gates::{GATES, GateStatus};

use super::*;
use crate::config_check::tests::lay_out;

const PIPELINE: &str = "\
from transformers import Pipeline

class DeValPipeline(Pipeline):
    def __init__(self, *args, model_dir=None, **kwargs): pass
    def _sanitize_parameters(self, **kwargs): return {}, {}, {}
    def preprocess(self, inputs): return inputs
    def _forward(self, inputs): return inputs
    def postprocess(self, outputs): return {'score_completion': 0.5, 'mistakes_completion': []}
";

/// A sound small submission in a folder.
fn submission(root: &Path) -> Submission {
    fs::create_dir_all(root.join("model_files")).unwrap();
    fs::create_dir_all(root.join("pipeline/model")).unwrap();
    lay_out(&root.join("model_files"));
    fs::write(root.join("pipeline/model/pipeline.py"), PIPELINE).unwrap();
    Submission {
        root: root.to_owned(),
        model_dir: root.join("model_files"),
        pipeline_dir: root.join("pipeline/model"),
        coldkey_expected: Some(SOME_ADDRESS.into()),
        wallet_fault: None,
        model_url: "acme/judge".into(),
        network: Network::Local,
        ignore: Vec::new(),
        published: false,
    }
}

fn codes(findings: &Findings) -> Vec<&str> {
    findings.diagnostics.iter().map(|finding| finding.code.as_str()).collect()
}

fn status(findings: &Findings, code: &str) -> GateStatus {
    findings.gates.iter().find(|gate| gate.code == code).unwrap().status
}

#[test]
fn a_sound_submission_has_only_the_warning_on_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let found = validate(&submission(dir.path())).unwrap();
    assert_eq!(codes(&found), ["G15"], "{found:#?}");
    assert_eq!(found.diagnostics[0].severity, deval_report::Severity::Warning);
    let not_passed: Vec<_> =
        found.gates.iter().filter(|gate| gate.status != GateStatus::Pass).map(|gate| &gate.code).collect();
    assert_eq!(not_passed, ["G15"]);
    let size = found.gates.iter().find(|gate| gate.code == "G15").unwrap();
    assert!(size.margin.as_ref().unwrap().ends_with(" %) too small"), "{size:?}");
    let distance = size.distance.unwrap();
    assert!(distance.value < -11.9 && distance.unit == deval_report::gates::Unit::Gigabytes, "{distance:?}");
}

#[test]
fn the_same_submission_fails_on_a_real_network() {
    let dir = tempfile::tempdir().unwrap();
    for network in [Network::Test, Network::Finney] {
        let found = validate(&Submission { network, ..submission(dir.path()) }).unwrap();
        assert!(found.diagnostics[0].is_error());
        assert_eq!(status(&found, "G15"), GateStatus::Fail);
    }
}

#[test]
fn verdicts_are_in_the_validators_order_and_name_real_gates() {
    let dir = tempfile::tempdir().unwrap();
    let found = validate(&submission(dir.path())).unwrap();
    assert!(found.gates.is_sorted_by_key(|gate| gate.code.clone()));
    assert!(found.gates.iter().all(|gate| GATES.iter().any(|known| known.code == gate.code)));
}

#[test]
fn missing_folders_leave_their_gates_unknown_and_do_not_hide_other_findings() {
    let dir = tempfile::tempdir().unwrap();
    let missing =
        Submission { model_dir: dir.path().join("nothing"), model_url: "a/b/c".into(), ..submission(dir.path()) };
    let found = validate(&missing).unwrap();
    assert_eq!(codes(&found), ["G06", "G13"]);
    assert_eq!(found.diagnostics[1].place.as_ref().unwrap().file, "nothing");
    assert_eq!(status(&found, "G38"), GateStatus::Unknown);
    assert_eq!(status(&found, "G35"), GateStatus::Pass);
}

#[test]
fn all_kinds_of_findings_are_collected_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let submission = Submission { model_url: "acme/judge/x".into(), ..submission(dir.path()) };
    let model = &submission.model_dir;
    let shard = fs::read(model.join("model.safetensors")).unwrap();
    fs::write(model.join("model.safetensors"), &shard[..shard.len() - 2]).unwrap();
    fs::write(model.join("coldkey.txt"), format!("{SOME_ADDRESS}\n")).unwrap();
    fs::write(model.join("notes.md"), format!("first\nhf_{}\n", "a1".repeat(17))).unwrap();
    fs::write(model.join(".env"), "x").unwrap();
    fs::write(model.join("training_args.bin"), "x").unwrap();
    fs::write(submission.pipeline_dir.join("pipeline.py"), PIPELINE.replace("class", "import vllm\nclass")).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!(
        codes(&found),
        ["G06", "G38", "G36", "G30", "package.secret", "package.secret", "package.pickle", "G15"]
    );
    let secret = found.diagnostics[4].place.as_ref().unwrap();
    assert_eq!((secret.file.as_str(), secret.line), ("model_files/notes.md", Some(2)));
    assert_eq!(status(&found, "G30"), GateStatus::Fail);
    assert_eq!(status(&found, "G36"), GateStatus::Fail);
}

#[test]
fn without_wallet_and_file_nobody_owns_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let submission = Submission { coldkey_expected: None, ..submission(dir.path()) };
    assert_eq!(status(&validate(&submission).unwrap(), "G31"), GateStatus::Fail);
    let fault = Diagnostic::error("G31", "coldkeypub.txt is empty").in_file("wallets/demo/coldkeypub.txt");
    let broken = validate(&Submission { wallet_fault: Some(fault.clone()), ..submission.clone() }).unwrap();
    assert!(broken.diagnostics.contains(&fault), "{broken:?}");
    assert!(!broken.diagnostics.iter().any(|finding| finding.message.contains("neither")), "{broken:?}");
    assert_eq!(status(&broken, "G31"), GateStatus::Fail);
    fs::write(submission.model_dir.join("coldkey.txt"), SOME_ADDRESS).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((status(&found, "G30"), status(&found, "G31")), (GateStatus::Pass, GateStatus::Pass));
}

#[test]
fn a_coldkey_file_under_the_guides_other_name_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    fs::write(submission.model_dir.join("Coldkey.txt"), SOME_ADDRESS).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((codes(&found), status(&found, "G31")), (vec!["G31", "G15"], GateStatus::Warn));
}

#[test]
fn weights_that_only_their_owner_can_read_are_noted() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    fs::set_permissions(submission.model_dir.join("model.safetensors"), fs::Permissions::from_mode(0o600)).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!(codes(&found), ["G39", "G15"]);
    assert_eq!(status(&found, "G39"), GateStatus::Warn);
}

#[test]
fn a_link_out_of_the_model_folder_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    fs::write(dir.path().join("secret.txt"), "x").unwrap();
    std::os::unix::fs::symlink("../secret.txt", submission.model_dir.join("vocab.txt")).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!(codes(&found), ["package.source"]);
    let finding = &found.diagnostics[0];
    assert!(finding.message.contains("outside the model folder") && finding.help.is_some());
    assert_eq!(finding.place.as_ref().unwrap().file, "model_files/vocab.txt");
    fs::remove_file(submission.model_dir.join("vocab.txt")).unwrap();
    std::os::unix::fs::symlink("nowhere", submission.model_dir.join("merges.txt")).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!(
        (codes(&found), found.diagnostics[0].place.as_ref().unwrap().file.as_str()),
        (vec!["package.source"], "model_files/merges.txt")
    );
}

#[test]
fn an_obfuscated_pipeline_leaves_its_class_to_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let source = "# Pyarmor 8.5.11 (trial), 000000\nfrom pyarmor_runtime_000000 import __pyarmor__\n__pyarmor__(__name__, __file__, b'PY000000')\n";
    fs::write(submission.pipeline_dir.join("pipeline.py"), source).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((status(&found, "G35"), status(&found, "G37")), (GateStatus::Unknown, GateStatus::Fail));
    assert_eq!(status(&found, "G36"), GateStatus::Unknown, "what it imports cannot be seen");
    let class = found.gates.iter().find(|gate| gate.code == "G35").unwrap();
    assert!(class.next.as_ref().unwrap().contains("container lane"), "{class:?}");
}

#[test]
fn what_keeps_a_model_from_loading_fails_its_gate() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    assert_eq!(status(&validate(&submission).unwrap(), "G38"), GateStatus::Pass);
    fs::remove_file(submission.model_dir.join("config.json")).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((codes(&found)[0], status(&found, "G38")), ("model.file-missing", GateStatus::Fail));
}

#[test]
fn the_local_network_does_not_fail_on_limits_of_a_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    // 24 GB in a sparse file whose header says so.
    let path = submission.model_dir.join("model.safetensors");
    let header = r#"{"a":{"dtype":"U8","shape":[24000000000],"data_offsets":[0,24000000000]}}"#;
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(8 + header.len() as u64 + 24_000_000_000).unwrap();
    for (network, expected) in [(Network::Local, GateStatus::Warn), (Network::Finney, GateStatus::Fail)] {
        let found = validate(&Submission { network, ..submission.clone() }).unwrap();
        assert_eq!((status(&found, "G15"), status(&found, "G26")), (expected, expected));
        let hash = found.gates.iter().find(|gate| gate.code == "G26").unwrap();
        assert!(hash.estimate && hash.distance.unwrap().value < -3.9, "{hash:?}");
    }
}

#[test]
fn names_that_are_not_utf8_are_a_finding_in_either_folder() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff.py");
    for folder in [&submission.model_dir, &submission.pipeline_dir] {
        fs::write(folder.join(odd), "").unwrap();
        let found = validate(&submission).unwrap();
        assert_eq!(codes(&found), ["model.name"], "{found:#?}");
        assert!(found.diagnostics[0].place.as_ref().unwrap().file.contains("odd\u{fffd}.py"));
        fs::remove_file(folder.join(odd)).unwrap();
    }
}

#[test]
fn what_is_no_file_is_a_finding_and_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let model = &submission.model_dir;
    for name in
        ["config.json", "tokenizer.json", "tokenizer_config.json", "coldkey.txt", "model.safetensors.index.json"]
    {
        fs::remove_file(model.join(name)).ok();
        let made = std::process::Command::new("mkfifo").arg(model.join(name)).status().unwrap();
        assert!(made.success());
        let found = validate(&submission).unwrap();
        let text = format!("{name} is a pipe");
        let finding = found.diagnostics.iter().find(|finding| finding.message.starts_with(&text)).unwrap();
        assert_eq!(finding.place.as_ref().unwrap().file, format!("model_files/{name}"));
        assert!(finding.is_error() && finding.help.is_some());
    }
    fs::remove_file(submission.pipeline_dir.join("pipeline.py")).unwrap();
    fs::create_dir(submission.pipeline_dir.join("pipeline.py")).unwrap();
    let found = validate(&submission).unwrap();
    assert!(found.diagnostics.iter().any(|finding| finding.message == "pipeline.py is a folder, not a file"));
}

#[test]
fn files_far_too_large_for_their_names_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    for name in ["config.json", "model.safetensors.index.json", "tokenizer.json", "coldkey.txt"] {
        let file = fs::File::create(submission.model_dir.join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
    }
    let found = validate(&submission).unwrap();
    let large: Vec<_> =
        found.diagnostics.iter().filter(|finding| finding.message.contains("too large to be")).collect();
    assert_eq!(large.len(), 4, "{found:#?}");
}

/// The findings about what stays out: severity, code and file.
fn left_out(found: &Findings) -> Vec<(bool, &str, &str)> {
    let about = found.diagnostics.iter().filter(|finding| finding.message.contains("stays out"));
    about.map(|finding| (finding.is_error(), finding.code.as_str(), &*finding.place.as_ref().unwrap().file)).collect()
}

#[test]
fn weights_that_enter_the_hash_may_not_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let model = &submission.model_dir;
    fs::copy(model.join("model.safetensors"), model.join("model-00002-of-00002.safetensors")).unwrap();
    let expected = vec![(true, "G27", "model_files/model-00002-of-00002.safetensors")];
    let by_manifest = Submission { ignore: vec!["model-00002*".into()], ..submission.clone() };
    let found = validate(&by_manifest).unwrap();
    assert_eq!((left_out(&found), status(&found, "G27")), (expected.clone(), GateStatus::Fail));
    fs::write(model.join(".devalignore"), "model-00002*\n").unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((left_out(&found), status(&found, "G27")), (expected, GateStatus::Fail));
    assert!(found.diagnostics.iter().any(|finding| finding.help.as_ref().is_some_and(|help| help.contains("rule"))));
    fs::write(model.join(".devalignore"), "").unwrap();
    fs::rename(model.join("model-00002-of-00002.safetensors"), model.join(".old.safetensors")).unwrap();
    assert_eq!(left_out(&validate(&submission).unwrap()), [(true, "G27", "model_files/.old.safetensors")]);
    // What is published was packaged, and is hashed as it stands.
    let found = validate(&Submission { published: true, ..submission }).unwrap();
    assert_eq!((left_out(&found), status(&found, "G27")), (Vec::new(), GateStatus::Pass));
}

#[test]
fn left_out_files_are_errors_where_the_model_needs_them_and_notes_else() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let model = &submission.model_dir;
    for name in ["generation_config.json", "model.safetensors.index.json"] {
        fs::write(model.join(name), "{}").unwrap();
    }
    fs::write(model.join(".devalignore"), "*\n!*.safetensors\n").unwrap();
    let found = validate(&submission).unwrap();
    let expected = [
        (true, "G38", "model_files/config.json"),
        (false, "package.file-left-out", "model_files/generation_config.json"),
        (false, "package.file-left-out", "model_files/model.safetensors.index.json"),
        (true, "G38", "model_files/tokenizer.json"),
        (true, "G38", "model_files/tokenizer_config.json"),
        (true, "G35", "pipeline/model/pipeline.py"),
    ];
    assert_eq!(left_out(&found), expected);
    assert_eq!((status(&found, "G38"), status(&found, "G35")), (GateStatus::Fail, GateStatus::Fail));
    fs::rename(model.join("model.safetensors"), model.join("model-00001-of-00001.safetensors")).unwrap();
    let found = validate(&submission).unwrap();
    assert!(left_out(&found).contains(&(true, "G38", "model_files/model.safetensors.index.json")), "{found:#?}");
}

#[test]
fn rules_that_nobody_reads_or_that_are_no_text_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    fs::write(dir.path().join(".devalignore"), "notes.md\n").unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!(codes(&found), ["package.ignore", "G15"]);
    let finding = &found.diagnostics[0];
    assert_eq!(finding.place.as_ref().unwrap().file, ".devalignore");
    assert!(!finding.is_error() && finding.expected.as_deref() == Some("model_files/.devalignore"));
    fs::remove_file(dir.path().join(".devalignore")).unwrap();
    fs::write(submission.model_dir.join(".devalignore"), b"n\xe4mlich.md\n").unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((codes(&found), found.diagnostics[0].is_error()), (vec!["package.ignore", "G15"], true));
    assert_eq!(found.diagnostics[0].place.as_ref().unwrap().file, "model_files/.devalignore");
}

#[test]
fn a_name_with_control_characters_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    fs::write(submission.model_dir.join("a\nb.txt"), "x").unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((codes(&found), found.diagnostics[0].is_error()), (vec!["package.name", "G15"], true));
    assert_eq!(found.diagnostics[0].place.as_ref().unwrap().file, "model_files/a\\nb.txt");
}
