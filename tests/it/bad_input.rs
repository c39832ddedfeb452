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
fn a_shard_left_out_by_a_rule_ends_every_step_with_a_finding() {
    let project = Project::new();
    fs::copy(project.path("model/model.safetensors"), project.path("model/model-00002.safetensors")).expect("writable");
    fs::write(project.path("model/.devalignore"), "model-00002*\n").expect("writable");
    for step in ["validate", "package", "hash"] {
        let ran = project.run(&[step]);
        assert_eq!(ran.code, 1, "{step}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("error[G27]") && ran.stderr.contains("model/model-00002.safetensors"),
            "{}",
            ran.stderr
        );
    }
    assert!(!project.path("target/deval/package").exists());
}

#[test]
fn a_rule_that_leaves_out_everything_is_a_finding_with_its_place() {
    let project = Project::new();
    fs::write(project.path("model/.devalignore"), "*\n").expect("writable");
    let ran = project.run(&["package"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("error[G38]") && ran.stderr.contains("at       model/config.json"), "{}", ran.stderr);
}

#[test]
fn a_stage_that_was_changed_is_staged_again() {
    let project = Project::new();
    assert_eq!(project.run(&["package"]).code, 0);
    assert!(project.run(&["package"]).stderr.contains("package   fresh"));
    for name in ["model/text.py", "coldkey.txt"] {
        let staged = project.path("target/deval/package").join(name);
        let before = fs::read(&staged).expect("it was staged");
        let mut bytes = before.clone();
        bytes[0] ^= 1;
        fs::write(&staged, bytes).expect("writable");
        let ran = project.run(&["package"]);
        assert!(ran.code == 0 && ran.stderr.contains("package   runs"), "{name}: {}", ran.stderr);
        assert_eq!(fs::read(&staged).expect("it was staged again"), before, "{name}");
    }
}

#[test]
fn a_broken_wallet_is_told_by_its_file() {
    let project = Project::new();
    let public = project.path("wallets/demo/coldkeypub.txt");
    let sound = fs::read_to_string(&public).expect("it is there");
    let address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let cases = [
        (String::new(), "is empty"),
        ("not JSON".into(), "not the JSON object bittensor writes"),
        (format!("\u{feff}{sound}"), "byte order mark"),
        (address.into(), "bare address"),
        ("{\"ss58Address\": \"15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5\"}".into(), "another chain's"),
        (format!("{{\"ss58Address\": \"{address}\", \"publicKey\": \"0x{}\"}}", "07".repeat(32)), "different keys"),
        (format!("{{\"ss58Address\": \"{}\"}}", "x".repeat(30_000)), "longer than any address"),
    ];
    let told = |what: &str| {
        let (code, text) = findings(&project);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("error[G31]") && text.contains(what) && !text.contains("neither"), "{what}: {text}");
        assert!(text.contains("at       wallets/demo/coldkeypub.txt") && text.contains("help"), "{text}");
    };
    for (content, what) in cases {
        fs::write(&public, content).expect("writable");
        told(what);
    }
    fs::remove_file(&public).expect("it was there");
    told("cannot be read");
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

#[test]
fn a_device_that_is_not_there_is_a_finding_with_its_place() {
    let project = Project::new();
    for (device, expected) in [("cuda:0", "--features cuda"), ("gpu", "\"cuda:N\"")] {
        project.manifest(&format!("{}device = \"{device}\"\n", evaluation()));
        let ran = project.run(&["evaluate"]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let told = ran.stderr.contains("error[evaluate.device]") && ran.stderr.contains(expected);
        assert!(told && ran.stderr.contains("deval.toml:"), "{}", ran.stderr);
        let ran = project.run(&["evaluate", "--device", "cpu"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran = project.run(&["evaluate", "--device", "gpu"]);
    assert!(ran.code == 2 && ran.stderr.contains("expected auto, cpu or cuda:N"), "{}", ran.stderr);
}

#[test]
fn what_the_model_cannot_do_is_told_with_the_reward() {
    let project = Project::new();
    project.manifest(&evaluation().replace("likelihood", "generate"));
    let settings = r#"{"eos_token_id": 2, "num_beams": 4, "repetition_penalty": 1.1}"#;
    fs::write(project.path("model/generation_config.json"), settings).expect("writable");
    let config = fs::read_to_string(project.path("model/config.json")).expect("it is there");
    let config = config.replace("\"max_position_embeddings\": 1024", "\"max_position_embeddings\": 300");
    fs::write(project.path("model/config.json"), config).expect("writable");
    let ran = project.run(&["evaluate"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("warning[evaluate.generation_config]") && ran.stderr.contains("num_beams"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("warning[evaluate.context]") && ran.stderr.contains("300 tokens"), "{}", ran.stderr);
    assert!(ran.stdout.contains("Speed elsewhere (estimate)") && ran.stdout.contains("L40S"), "{}", ran.stdout);
    assert!(ran.stdout.contains("Speed here (estimate)"), "{}", ran.stdout);
    let report = project.json(&["evaluate"]);
    assert_eq!(report["result"]["speed"]["machines"].as_array().map(Vec::len), Some(4));
    fs::write(project.path("model/generation_config.json"), r#"{"repetition_penalty": -1}"#).expect("writable");
    let ran = project.run(&["evaluate"]);
    assert!(ran.code > 0 && ran.stderr.contains("repetition_penalty is -1"), "{}", ran.stderr);
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
