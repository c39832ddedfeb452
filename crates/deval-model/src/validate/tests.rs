use std::fs;

use deval_report::gates::{GATES, GateStatus};

use super::*;
use crate::config_check::tests::lay_out;

const PIPELINE: &str = "from transformers import Pipeline\n\nclass DeValPipeline(Pipeline):\n    def __init__(self, *args, model_dir=None, **kwargs):\n        pass\n";

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
        model_url: "acme/judge".into(),
        network: Network::Local,
        ignore: Vec::new(),
    }
}

fn codes(findings: &Findings) -> Vec<&str> {
    findings.diagnostics.iter().map(|finding| finding.code.as_str()).collect()
}

fn status(findings: &Findings, code: &str) -> GateStatus {
    findings.gates.iter().find(|gate| gate.code == code).unwrap().status
}

#[test]
fn a_sound_submission_has_only_the_note_on_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let found = validate(&submission(dir.path())).unwrap();
    assert_eq!(codes(&found), ["G15"], "{found:#?}");
    assert_eq!(found.diagnostics[0].severity, deval_report::Severity::Note);
    let not_passed: Vec<_> =
        found.gates.iter().filter(|gate| gate.status != GateStatus::Pass).map(|gate| &gate.code).collect();
    assert_eq!(not_passed, ["G15"]);
    assert!(found.gates.iter().find(|gate| gate.code == "G15").unwrap().margin.as_ref().unwrap().contains("too small"));
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
    fs::write(submission.model_dir.join("coldkey.txt"), SOME_ADDRESS).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((status(&found, "G30"), status(&found, "G31")), (GateStatus::Pass, GateStatus::Pass));
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
    assert!(found.diagnostics[0].message.contains("outside the model folder"));
}

#[test]
fn an_obfuscated_pipeline_leaves_its_class_to_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let submission = submission(dir.path());
    let source = "# Pyarmor 8.5.11 (trial), 000000\nfrom pyarmor_runtime_000000 import __pyarmor__\n__pyarmor__(__name__, __file__, b'PY000000')\n";
    fs::write(submission.pipeline_dir.join("pipeline.py"), source).unwrap();
    let found = validate(&submission).unwrap();
    assert_eq!((status(&found, "G35"), status(&found, "G37")), (GateStatus::Unknown, GateStatus::Fail));
}
