//! Every kind of wrong input: exit code 1 for findings, 2 when the work could not be done, and a message that names place, found,
//! expected and remedy.

use std::{fs, net::TcpListener};

use crate::harness::{Project, Ran};

/// Exit code and everything that was said, as one snapshot.
fn said(ran: &Ran) -> String {
    format!("exit {}\n{}", ran.code, ran.stderr)
}

/// The findings of `validate` whose code starts with one of these, as text.
fn findings(project: &Project) -> (i32, String) {
    let ran = project.run(&["validate"]);
    let findings = ran.stderr.split("\n\n").collect::<Vec<_>>().join("\n");
    (ran.code, findings)
}

#[test]
fn a_broken_manifest_is_told_all_at_once() {
    let project = Project::new();
    project.manifest("[evaluate]\nexamples_per_task = \"many\"\nseeed = 1\n[axon]\nport = 80\n");
    insta::assert_snapshot!(said(&project.run(&["validate"])));
}

#[test]
fn a_newer_schema_is_refused_at_once() {
    let project = Project::new();
    project.manifest_text("schema = 2\nnew_key = true\n");
    insta::assert_snapshot!(said(&project.run(&["validate"])));
}

#[test]
fn a_missing_manifest_names_the_remedy() {
    let project = Project::new();
    insta::assert_snapshot!(said(&project.run(&["validate", "--manifest", "other.toml"])));
}

#[test]
fn a_missing_model_folder() {
    let project = Project::new();
    fs::remove_dir_all(project.path("model")).expect("it was there");
    insta::assert_snapshot!(said(&project.run(&["validate"])));
}

#[test]
fn no_safetensors_at_the_root() {
    let project = Project::new();
    fs::remove_file(project.path("model/model.safetensors")).expect("it was there");
    let (code, text) = findings(&project);
    assert_eq!(code, 1);
    assert!(text.contains("error[G13]") && text.contains("help"), "{text}");
}

#[test]
fn a_truncated_shard() {
    let project = Project::new();
    let path = project.path("model/model.safetensors");
    let bytes = fs::read(&path).expect("it is there");
    fs::write(&path, &bytes[..bytes.len() - 10]).expect("writable");
    let (code, text) = findings(&project);
    assert_eq!(code, 1);
    assert!(text.contains("error[G38]") && text.contains("model.safetensors"), "{text}");
}

#[test]
fn a_git_lfs_pointer_in_place_of_weights() {
    let project = Project::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    fs::write(project.path("model/model.safetensors"), pointer).expect("writable");
    let (code, text) = findings(&project);
    assert_eq!(code, 1);
    assert!(text.contains("error[G38]") && text.to_lowercase().contains("lfs"), "{text}");
}

#[test]
fn a_coldkey_file_with_a_newline() {
    let project = Project::new();
    let address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    fs::write(project.path("model/coldkey.txt"), format!("{address}\n")).expect("writable");
    let (code, text) = findings(&project);
    assert_eq!(code, 1);
    assert!(text.contains("error[G30]") && text.contains("coldkey.txt"), "{text}");
}

#[test]
fn a_model_url_with_two_slashes_or_too_long() {
    let project = Project::new();
    for (url, gate) in [("a/b/c", "error[G06]"), ("a-namespace/a-name-that-is-far-too-long", "error[G19]")] {
        project.manifest("");
        let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
        project.manifest_text(&text.replace("demo/tiny", url));
        let (code, text) = findings(&project);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(gate) && text.contains("deval.toml:4:13"), "{url}: {text}");
    }
}

#[test]
fn an_evaluation_without_the_encoder_it_needs_says_so_before_the_first_question() {
    let project = Project::new();
    let ran = project.run(&["evaluate"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("error[evaluate.embedder]") && ran.stderr.contains("embedder_dir"), "{}", ran.stderr);
}

/// An address that nothing listens on.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn a_hub_that_is_down() {
    let project = Project::new();
    let port = dead_port();
    project.manifest(&format!("[hub]\nendpoint = \"http://127.0.0.1:{port}\"\n{}", evaluation()));
    let ran = project.run(&["publish"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("127.0.0.1:{port}")), "{}", ran.stderr);
}

#[test]
fn a_chain_that_is_down() {
    let project = Project::new();
    let port = dead_port();
    project.manifest(&format!("[chain]\nendpoint = \"ws://127.0.0.1:{port}\"\n{}", evaluation()));
    let ran = project.run(&["publish", "--execute"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = project.run(&["commit"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("127.0.0.1:{port}")), "{}", ran.stderr);
}

#[test]
fn a_port_that_is_taken() {
    let project = Project::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ran = project.run(&["localnet", "--hub-port", &port]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains(&port), "{}", ran.stderr);
}

/// The quickest evaluation there is.
pub(crate) fn evaluation() -> String {
    let labelled = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/examples/relevancy.jsonl");
    format!("[evaluate]\nreading = \"likelihood\"\nexamples = {labelled:?}\n")
}
