//! The exact lane from the command line: the real image on the real engine, and everything that can go wrong with it.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use deval_model::tiny;
use serde_json::Value;

use crate::{
    clients::python,
    harness::{Project, Ran, repository, skip},
    numbers::publish,
    way::Localnet,
};

/// The image that the miner API's is built on; none without an engine.
pub(crate) fn base() -> Option<&'static str> {
    static BASE: OnceLock<Option<String>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let output = Command::new(repository().join("ci/base-image.sh")).arg("deval/base").output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !name.is_empty()).then_some(name)
    });
    if base.is_none() {
        skip("docker", "ci/base-image.sh could not make a base image");
    }
    base.as_deref()
}

/// Sources of the pipeline that does what it is told.
fn scripted_pipeline() -> PathBuf {
    repository().join("tests/fixtures/pipelines/scripted/model")
}

/// A submission whose pipeline does what `deval_pipeline.json` tells it; `None` without an engine.
fn scripted(script: &str) -> Option<Project> {
    let project = with_pipeline(&scripted_pipeline())?;
    fs::write(project.path("model/deval_pipeline.json"), script).expect("writable");
    Some(project)
}

fn with_pipeline(pipeline: &Path) -> Option<Project> {
    static IMAGE: OnceLock<()> = OnceLock::new();
    let base = base()?;
    // Building it takes minutes where it was never built, and no test below waits that long.
    IMAGE.get_or_init(|| {
        let ran = on_base(base, &scripted_pipeline()).run(&["evaluate"]);
        assert!(ran.code < 2, "{}", ran.stderr);
    });
    Some(on_base(base, pipeline))
}

fn on_base(base: &str, pipeline: &Path) -> Project {
    let project = Project::new();
    fs::remove_dir_all(project.path("model")).expect("it was written");
    tiny::write(&project.path("model"), tiny::Kind::Chain).expect("a tiny model");
    project.manifest_text(&format!(
        "schema = 1\n\n[submission]\nmodel_url = \"demo/tiny\"\nmodel_dir = \"model\"\npipeline_dir = {pipeline:?}\n\n\
         [wallet]\npath = \"wallets\"\nname = \"demo\"\n\n[evaluate]\nbackend = \"container\"\nexamples = \"set.jsonl\"\n\n\
         [container]\nimage_dir = {:?}\nbase = {base:?}\nmemory_gib = 2\n",
        repository().join("pipeline"),
    ));
    examples(&project, "1");
    project
}

/// A generated set without summaries, which would need an encoder.
fn examples(project: &Project, per_task: &str) {
    let tasks = ["--task", "relevancy", "--task", "hallucination", "--task", "attribution"];
    let ran =
        project.run(&[&["examples", "generate", "--out", "set.jsonl", "--per-task", per_task][..], &tasks].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn code(ran: &Ran, code: i32) {
    assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn a_tiny_model_is_judged_as_a_validator_would() {
    let Some(project) = with_pipeline(&repository().join("pipeline/model")) else { return };
    let report = project.json(&["evaluate", "--save", "plain.json"]);
    insta::assert_snapshot!(seen(&report));
    let timing = &report["run"]["timing"];
    assert_eq!(timing["container"]["network"], "closed", "{timing}");
    assert!(timing["container"]["overhead_ms"][0].as_f64().expect("a number") > 0.0, "{timing}");
    assert!(
        timing["margins"]["G40"]["value"].is_f64()
            && timing["container"]["phases"].as_array().expect("phases").len() == 3
    );

    let mut again = project.json(&["evaluate", "--rerun", "--save", "again.json"]);
    assert_eq!(again["run"]["timing"]["container"]["resumed"], 0, "a finished run is asked anew");
    again["run"] = report["run"].clone();
    assert_eq!(report.to_string(), again.to_string(), "two reports of one package are equal outside `run`");
    let ran = project.run(&["compare", "plain.json", "again.json"]);
    code(&ran, 0);
    assert!(ran.stdout.contains("nothing that they depend on differs"), "{}", ran.stdout);
    code(&project.run(&["evaluate", "--serial-exact=false", "--save", "other.json"]), 0);
    let ran = project.run(&["compare", "plain.json", "other.json"]);
    assert!(ran.stdout.contains("container.serial_exact"), "{}", ran.stdout);
    let ran = project.run(&["evaluate", "--conformance"]);
    assert!(ran.stdout.contains("100 of 100 rows"), "{}\n{}", ran.stdout, ran.stderr);
    let ran = project.run(&["evaluate"]);
    code(&ran, 0);
    assert!(ran.stdout.contains("G40") && ran.stdout.contains("median"), "{}", ran.stdout);
}

#[test]
fn plain_and_obfuscated_packages_answer_alike() {
    let Some(project) = with_pipeline(&repository().join("pipeline/model")) else { return };
    if python().is_none() {
        return;
    }
    // What this model says depends on all that it is asked, so that equal answers prove equal questions.
    tiny::write(&project.path("model"), tiny::Kind::Random { seed: 7 }).expect("a tiny model");
    examples(&project, "2");
    let plain = project.json(&["evaluate"]);
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("it was written");
    project.manifest_text(&format!("{manifest}\n[package]\nobfuscate = true\n"));
    let obfuscated = project.json(&["evaluate"]);
    let package = |report: &Value| report["result"]["backend"]["evidence"]["package"].clone();
    assert_ne!(package(&plain), package(&obfuscated), "they are two packages");
    assert_eq!(seen(&plain), seen(&obfuscated));
    let scores: BTreeSet<_> =
        plain["result"]["results"].as_array().expect("a list").iter().map(|one| one["answer"].to_string()).collect();
    assert!(scores.len() > 1, "the answers differ among themselves: {scores:?}");
    insta::assert_snapshot!(seen(&obfuscated));
}

/// What is the same on every machine.
fn seen(report: &Value) -> String {
    let mut result = report["result"].clone();
    for name in ["base", "image", "package"] {
        let digest = &mut result["backend"]["evidence"][name];
        assert!(!digest.as_str().expect("text").is_empty(), "{name}");
        *digest = Value::from(format!("[{name}]"));
    }
    let parts = ["backend", "lane", "reasons", "gates", "results"].map(|key| format!("{key}: {:#}\n", result[key]));
    parts.concat()
}

#[test]
fn a_pipeline_that_cannot_be_imported_shows_its_traceback() {
    let Some(project) = scripted(r#"{"import": {"do": "raises", "message": "no such thing"}}"#) else { return };
    let ran = project.run(&["evaluate"]);
    code(&ran, 1);
    for part in ["G35", "Traceback (most recent call last)", "ValueError: no such thing", "exit code 1"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn what_a_pipeline_returns_is_told_by_its_gate() {
    let Some(project) = scripted("{}") else { return };
    let rows = [
        (r#"{"do": "raises"}"#, "G41"),
        (r#"{"do": "nan"}"#, "G43"),
        (r#"{"answer": "None"}"#, "G42"),
        (r#"{"answer": "'text'"}"#, "G42"),
        (r#"{"answer": "{'score_completion': 'x', 'mistakes_completion': []}"}"#, "G43"),
        (r#"{"answer": "{'score_completion': 0.5, 'mistakes_completion': 'text'}"}"#, "G44"),
        (r#"{"answer": "{'score_completion': 0.5, 'mistakes_completion': [1]}"}"#, "G44"),
        (r#"{"answer": "{'score_completion': 0.5}"}"#, "G45"),
        (r#"{"answer": "{'score_completion': 0.5, 'mistakes_completion': ['...']}"}"#, "G46"),
        (r#"{"answer": "{'score_completion': 0.5, 'mistakes_completion': {'a'}}"}"#, "container.types"),
        (r#"{"answer": "{'score_completion': 0.5, 'mistakes_completion': (m for m in ['a'])}"}"#, "container.types"),
    ];
    // One container for all of them: what to do stands in the response to judge.
    let line = |(number, (script, _)): (usize, &(&str, &str))| {
        let example = serde_json::json!({ "id": format!("row-{number}"), "task": "hallucination", "rag_context": "c", "query": "",
            "llm_response": script, "reference": 0.5, "reference_mistakes": ["a"], "reference_true_values": ["b"] });
        format!("{example}\n")
    };
    let text: String = rows.iter().enumerate().map(line).collect();
    fs::write(project.path("set.jsonl"), text).expect("writable");
    let report = project.json(&["evaluate"]);
    let findings = report["diagnostics"].as_array().expect("a list");
    for (script, gate) in rows {
        assert!(findings.iter().any(|finding| finding["code"] == gate), "{script}: {gate}: {findings:#?}");
    }
    let answers = report["result"]["results"].as_array().expect("a list");
    let status = |answer: &Value| answer["answer"]["http_status"].as_u64();
    let statuses: Vec<_> = answers.iter().map(|answer| status(answer).expect("a number")).collect();
    assert_eq!(statuses, [500, 500, 200, 200, 200, 200, 200, 200, 200, 200, 200], "a 500 costs no other answer");
    let scores: Vec<_> = answers.iter().map(|answer| answer["answer"]["score"].as_f64().expect("a number")).collect();
    assert_eq!(scores, [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.5, 0.5, 0.5, 0.5]);
}

/// A container that is removed with this value.
struct Served(String);

impl Served {
    /// Where its API answers, once it does.
    fn ready(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !docker(&["logs", &self.0]).contains("\"ready\"") {
            assert!(Instant::now() < deadline, "it never became ready");
            thread::sleep(Duration::from_millis(100));
        }
        format!("http://{}", docker(&["port", &self.0, "8000/tcp"]).lines().next().expect("a port"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("the client runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn the_api_answers_as_upstreams_row_by_row() {
    let Some(project) = scripted("{}") else { return };
    let report = project.json(&["evaluate"]);
    let image = report["run"]["timing"]["container"]["image"]["tag"].as_str().expect("a tag").to_owned();
    let package = format!("{}:/app/eval_llm:ro", repository().join("tests/fixtures/pipelines/scripted").display());
    let settings = ["--publish", "127.0.0.1::8000", "--user", "1000:1000", "--env", "DEVAL_FETCH=0"];
    let run = ["run", "--detach", "--env", "MODEL_URL=demo/tiny", "--volume", &package];
    let served = Served(docker(&[&run[..], &settings, &[&image]].concat()));
    let url = served.ready();
    let script = repository().join("tests/python/api_contract.py");
    let output = Command::new("python3").arg(script).args(["--base-url", &url]).output().expect("python3 runs");
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{table}");
    insta::assert_snapshot!(table);
}

#[test]
#[ignore = "needs the machine to itself for the 20 s limit; `cargo xtask test` runs it after the others"]
fn the_demo_model_answers_one_example_of_each_task() {
    let demo = repository().join("target/deval/demo");
    if !demo.join("model/config.json").exists() {
        skip("wheels", "no model in target/deval/demo; `cargo xtask demo` unpacks one");
        return;
    }
    let Some(project) = with_pipeline(&repository().join("pipeline/model")) else { return };
    fs::remove_dir_all(project.path("model")).expect("it was written");
    fs::create_dir(project.path("model")).expect("writable");
    for file in fs::read_dir(demo.join("model")).expect("a folder").flatten() {
        fs::copy(file.path(), project.path("model").join(file.file_name())).expect("room on the disk");
    }
    fs::write(project.path("model/deval_pipeline.json"), r#"{"reading": "likelihood"}"#).expect("writable");
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("it was written");
    let encoder = format!("[evaluate]\nembedder_dir = {:?}", demo.join("all-MiniLM-L6-v2"));
    project.manifest_text(&manifest.replace("[evaluate]", &encoder));
    code(&project.run(&["examples", "generate", "--out", "set.jsonl", "--per-task", "1"]), 0);
    let report = project.json(&["evaluate"]);
    // Tenths, because another processor adds up in another order.
    let line = |result: &Value| {
        let (answer, mistakes) = (&result["answer"], result["answer"]["mistakes"].as_array().map(Vec::len));
        let score = answer["score"].as_f64().expect("a number");
        format!(
            "{} {} {} {score:.1} {mistakes:?}\n",
            result["id"], answer["http_status"], answer["client_status_message"]
        )
    };
    insta::assert_snapshot!(
        report["result"]["results"].as_array().expect("a list").iter().map(line).collect::<String>()
    );
    assert!(
        report["run"]["timing"]["latency"]["max"].as_f64().is_some_and(|slowest| slowest < 20.0),
        "{}",
        report["run"]
    );
}

#[test]
fn the_contract_is_checked_row_by_row() {
    let Some(project) = scripted("{}") else { return };
    let ran = project.run(&["evaluate", "--conformance"]);
    insta::assert_snapshot!(ran.stdout);
}

/// A submission that lies on a local Hub; each question makes its pipeline look for a way out.
fn published() -> Option<(Project, Localnet)> {
    let project = scripted(r#"{"call": {"do": "network", "host": "pypi.org", "port": 443}}"#)?;
    fs::create_dir_all(project.path("target/deval/localnet")).expect("writable");
    let localnet = Localnet::start(&project);
    let manifest = fs::read_to_string(project.path("deval.toml")).expect("it was written");
    project.manifest_text(&format!("{manifest}\n[hub]\nendpoint = {:?}\n", localnet.hub));
    let packaged = project.json(&["package"]);
    let files: Vec<_> = packaged["result"]["files"].as_array().expect("files").iter().collect();
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().expect("a path")).collect();
    publish(&project, &localnet.hub, "demo/tiny", &project.path("target/deval/package"), &paths);
    Some((project, localnet))
}

/// The container pulled the package itself, and found nothing but the Hub.
fn is_fetched(report: &Value) {
    let container = &report["run"]["timing"]["container"];
    let phases = container["phases"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let names: Vec<_> = phases.iter().map(|phase| phase["deval_phase"].as_str().expect("a name")).collect();
    assert_eq!(names, ["fetch", "import", "load", "ready"]);
    assert_eq!(container["network"], "closed by a firewall");
    let seen = report["result"]["results"][1]["answer"]["mistakes"].to_string();
    assert!(seen.contains("rror: ") && !seen.contains("reached"), "nothing but the Hub can be reached: {seen}");
    let of_size = |gate: &&Value| gate["code"] == "G32" && gate["status"] == "pass";
    assert!(report["result"]["gates"].as_array().expect("gates").iter().any(|gate| of_size(&gate)));
}

#[test]
fn the_container_fetches_the_published_package_behind_its_firewall() {
    let Some((project, _localnet)) = published() else { return };
    is_fetched(&project.json(&["evaluate", "--fetch"]));
}

#[test]
fn an_engine_elsewhere_mounts_nothing_and_fetches() {
    let Some((project, _localnet)) = published() else { return };
    let Some(engine) = offer_engine_to_the_network() else {
        skip("docker", "this machine has no address but its loopback");
        return;
    };
    let run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        let output = command.env("DOCKER_HOST", format!("tcp://{engine}")).output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, said) = run(&["evaluate"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--fetch") && said.contains(&engine.to_string()), "{said}");
    let (_, report, said) = run(&["evaluate", "--fetch", "--format", "json"]);
    is_fetched(&serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {said}")));
}

/// The engine at an address that is not loopback, where it looks like one on another machine.
fn offer_engine_to_the_network() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    // Nothing is sent; it tells the address that leads out.
    socket.connect("203.0.113.1:9").ok()?;
    let listener = TcpListener::bind((socket.local_addr().ok()?.ip(), 0)).ok()?;
    let address = listener.local_addr().ok()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = UnixStream::connect("/var/run/docker.sock").expect("the engine answers");
            let (mut to_client, mut to_engine) =
                (client.try_clone().expect("a handle"), engine.try_clone().expect("a handle"));
            let (mut client, mut engine) = (client, engine);
            thread::spawn(move || {
                let _copied = std::io::copy(&mut client, &mut to_engine);
                to_engine.shutdown(Shutdown::Write)
            });
            thread::spawn(move || {
                let _copied = std::io::copy(&mut engine, &mut to_client);
                to_client.shutdown(Shutdown::Write)
            });
        }
    });
    Some(address)
}

#[test]
fn a_firewall_closes_the_network_where_the_engine_cannot() {
    let Some(project) = scripted("{}") else { return };
    let report = project.json(&["evaluate"]);
    let image = report["run"]["timing"]["container"]["image"]["tag"].as_str().expect("a tag").to_owned();
    let package = format!("{}:/app/eval_llm:ro", repository().join("tests/fixtures/pipelines/scripted").display());
    let rights = ["--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "SETUID", "--cap-add", "SETGID"];
    let limits = ["--read-only", "--tmpfs", "/tmp", "--security-opt", "no-new-privileges:true", "--user", "0:0"];
    let settings = ["--env", "DEVAL_FETCH=0", "--env", "DEVAL_FIREWALL=1", "--env", "MODEL_URL=demo/tiny"];
    let run = ["run", "--detach", "--publish", "127.0.0.1::8000", "--volume", &package];
    let served = Served(docker(&[&run[..], &rights, &limits, &settings, &[&image]].concat()));
    let url = served.ready();
    let gateway = docker(&["inspect", &served.0, "--format", "{{.NetworkSettings.Gateway}}"]);
    let told = |directive: Value| {
        let body =
            serde_json::json!({ "tasks": ["hallucination"], "rag_context": "", "llm_response": directive.to_string() });
        let answer = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--json", &body.to_string(), &format!("{url}/eval_query")])
            .output();
        String::from_utf8(answer.expect("curl runs").stdout).expect("UTF-8")
    };
    // A port of the host that answers where nothing is in the way, be it with a refusal.
    let out = told(serde_json::json!({ "do": "network", "host": gateway, "port": 1, "seconds": 1 }));
    assert!(out.contains("TimeoutError"), "{out}");
    let written = told(serde_json::json!({ "do": "writes_outside" }));
    assert!(written.contains("/tmp/inside: written") && written.matches("written").count() == 1, "{written}");
    let status = docker(&["exec", &served.0, "cat", "/proc/1/status"]);
    assert!(status.contains("CapEff:\t0000000000000000\n") && status.contains("Uid:\t1000\t1000"), "{status}");
}

#[test]
fn without_an_engine_it_says_how_to_start_one() {
    let project = Project::new();
    project.manifest(&format!(
        "[evaluate]\nexamples = \"set.jsonl\"\n\n[container]\nimage_dir = {:?}\n",
        repository().join("pipeline")
    ));
    examples(&project, "1");
    let run = |host: String| {
        let mut command = project.command(&["evaluate", "--backend", "container"]);
        let output = command.env("DOCKER_HOST", host).output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (code, said) = run("unix:///nowhere/docker.sock".to_owned());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/nowhere/docker.sock") && said.contains("systemctl start docker"), "{said}");

    let socket = project.path("old.sock");
    answer_as_an_old_engine(&socket);
    let (code, said) = run(format!("unix://{}", socket.display()));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("API 1.24") && said.contains("1.41 or newer"), "{said}");
}

/// A stand-in for an engine of long ago: it tells its version and nothing else.
fn answer_as_an_old_engine(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a free path");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let body = r#"{"Version": "1.12.0", "ApiVersion": "1.24"}"#;
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A run whose answers take a third of a second each, started and left once it has recorded two.
fn started(project: &Project, host: Option<&Path>) -> Child {
    let mut command = project.command(&["evaluate"]);
    if let Some(socket) = host {
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let (deadline, known) = (Instant::now() + Duration::from_secs(180), recorded(project));
    while recorded(project) < known + 2 {
        let ended = child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended: {ended:?}\n{}", said(&mut child));
        assert!(Instant::now() < deadline, "no answer came");
        thread::sleep(Duration::from_millis(50));
    }
    child
}

fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    said
}

/// Answers in the journal.
fn recorded(project: &Project) -> usize {
    let Ok(journals) = fs::read_dir(project.path("target/deval/container/journal")) else { return 0 };
    let lines = |path: PathBuf| fs::read_to_string(path).map_or(0, |text| text.lines().count().saturating_sub(1));
    journals.flatten().map(|journal| lines(journal.path())).sum()
}

/// Containers that belong to runs of this project.
fn containers(project: &Project) -> usize {
    let owners = project.path("target/deval/container/owners").canonicalize().expect("a run made it");
    let format = "{{.Label \"deval.owner\"}}";
    let output =
        Command::new("docker").args(["ps", "-a", "--filter", "label=deval.owner", "--format", format]).output();
    let text = String::from_utf8(output.expect("the client runs").stdout).expect("UTF-8");
    text.lines().filter(|owner| Path::new(owner).starts_with(&owners)).count()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

const SLOW: &str = r#"{"call": {"do": "late", "seconds": 0.3}}"#;

#[test]
fn an_interrupted_run_leaves_no_container_and_is_resumed() {
    let Some(project) = scripted(SLOW) else { return };
    examples(&project, "4");
    let mut child = started(&project, None);
    assert_eq!(containers(&project), 1);
    signal(&child, "-INT");
    let ended = child.wait().expect("it ends");
    assert_eq!((ended.code(), containers(&project)), (Some(130), 0), "{}", said(&mut child));

    let mut child = started(&project, None);
    assert!(recorded(&project) >= 2, "the interrupted run's answers are kept");
    signal(&child, "-KILL");
    child.wait().expect("it ends");
    assert_eq!(containers(&project), 1, "nothing can be done while being killed");

    let report = project.json(&["evaluate"]);
    assert!(report["run"]["timing"]["container"]["resumed"].as_u64().expect("a number") >= 2, "{}", report["run"]);
    assert_eq!(report["result"]["results"].as_array().expect("a list").len(), 12);
    assert_eq!(containers(&project), 0, "the next run removes what a killed one left");
}

#[test]
fn an_engine_that_dies_in_the_middle_ends_the_run_and_keeps_the_answers() {
    let Some(project) = scripted(SLOW) else { return };
    examples(&project, "12");
    let socket = project.path("proxy.sock");
    let proxy = Proxy::start(&socket);
    let mut child = started(&project, Some(&socket));
    proxy.die();
    let said = said(&mut child);
    assert_eq!(child.wait().expect("it ends").code(), Some(2), "{said}");
    assert!(said.contains("the container engine failed while"), "{said}");
    assert!(recorded(&project) >= 2, "the answers are kept");
    let report = project.json(&["evaluate"]);
    assert!(report["run"]["timing"]["container"]["resumed"].as_u64().expect("a number") >= 2, "{}", report["run"]);
    assert_eq!(containers(&project), 0);
}

/// Stands between the program and the engine until it dies.
struct Proxy {
    socket: PathBuf,
    open: std::sync::Arc<std::sync::Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a free path");
        let proxy = Self { socket: socket.to_owned(), open: std::sync::Arc::default() };
        let open = proxy.open.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect("/var/run/docker.sock").expect("the engine answers");
                let copy = |stream: &UnixStream| stream.try_clone().expect("a handle");
                open.lock().expect("no panic").extend([copy(&client), copy(&engine)]);
                let (mut from_client, mut to_engine) = (copy(&client), copy(&engine));
                thread::spawn(move || std::io::copy(&mut from_client, &mut to_engine));
                let (mut from_engine, mut to_client) = (engine, client);
                thread::spawn(move || std::io::copy(&mut from_engine, &mut to_client));
            }
        });
        proxy
    }

    fn die(&self) {
        fs::remove_file(&self.socket).expect("it is there");
        for stream in self.open.lock().expect("no panic").iter() {
            // One that is closed already is as good as shut.
            let _closed = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
