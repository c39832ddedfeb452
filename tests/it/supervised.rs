//! The axon under what keeps it running: the Compose file of `serve --print container`, carried out by the engine alone, and the
//! ecosystem file of pm2. What is compiled inside the image is taken from here, for this machine may reach no image registry.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use deval_axon::ModelQueryReply;
use deval_chain::{KeyPair, Wallet};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{Project, program, repository, skip},
    lane::base,
    serving::{committed, free_port, set_axon},
    way::Localnet,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the image's first stage is known by.
const LABEL: &str = "deval.test=axon";

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("docker runs")
}

fn ok(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

fn printed(project: &Project, keeper: &str) -> String {
    let output = project.command(&["serve", "--print", keeper]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The part of the Compose file that tells of the axon.
struct Compose(String);

impl Compose {
    fn printed(project: &Project) -> Self {
        Self(printed(project, "container"))
    }

    /// The value behind a key; values are JSON.
    fn value(&self, key: &str) -> Value {
        let line = self.0.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        let line = line.unwrap_or_else(|| panic!("no {key} in\n{}", self.0));
        serde_json::from_str(line).unwrap_or_else(|_| json!(line))
    }

    /// The items of a list.
    fn list(&self, key: &str) -> Vec<Value> {
        let behind = self.0.lines().skip_while(|line| line.trim() != format!("{key}:")).skip(1);
        let items = behind.map_while(|line| line.strip_prefix("      - "));
        items.map(|item| serde_json::from_str(item).expect("JSON")).collect()
    }

    /// What the image is made by, from the programs of this build on a base that is here.
    fn dockerfile(&self, base: &str) -> String {
        let lines = self.0.lines().skip_while(|line| !line.contains("dockerfile_inline")).skip(1);
        let lines: Vec<_> = lines.map_while(|line| line.strip_prefix("        ")).collect();
        let last =
            lines.iter().rposition(|line| line.starts_with("FROM debian:bookworm-slim")).expect("the last stage");
        // The base has what the last stage installs.
        let rest = lines[last + 1..].iter().filter(|line| line.starts_with("COPY") || line.starts_with("ENTRYPOINT"));
        let rest: Vec<_> = rest.copied().collect();
        assert_eq!(rest.len(), 2, "{}", self.0);
        let build = format!("FROM scratch AS build\nLABEL {LABEL}\nCOPY xtask deval-axon /source/target/debug/");
        format!("{build}\nFROM {base}\n{}\n", rest.join("\n"))
    }

    /// What `docker run` is told in place of Compose.
    fn flags(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut flags: Vec<String> = vec!["--detach".into(), format!("--user={}", text(&self.value("user")))];
        flags.extend([
            format!("--env=HOME={}", text(&self.value("HOME"))),
            format!("--workdir={}", text(&self.value("working_dir"))),
            format!("--read-only={}", text(&self.value("read_only"))),
            format!("--cap-drop={}", text(&self.value("cap_drop")).trim_matches(['[', ']'])),
            format!("--security-opt={}", text(&self.value("security_opt")[0])),
        ]);
        for mount in self.list("volumes") {
            let read_only = if mount["read_only"] == true { ",readonly" } else { "" };
            flags.push(format!("--mount=type=bind,source={0},target={0}{read_only}", text(&mount["source"])));
        }
        if self.0.contains("network_mode: host") {
            flags.push("--network=host".into());
        }
        flags.extend(self.list("ports").iter().map(|port| format!("--publish={}", text(port))));
        flags
    }
}

/// An image of this build, removed in the end.
struct Image(String);

impl Image {
    fn build(compose: &Compose, base: &str) -> Self {
        let context = TempDir::new().expect("a folder");
        fs::write(context.path().join("Dockerfile"), compose.dockerfile(base)).expect("writable");
        for name in ["xtask", "deval-axon"] {
            let strip = Command::new("strip").arg("-o").arg(context.path().join(name)).arg(program(name)).status();
            assert!(strip.expect("binutils are there").success());
        }
        let name = format!("deval/axon-test:{}", std::process::id());
        ok(docker(&["build", "--quiet", "--tag", &name, context.path().to_str().expect("UTF-8")]));
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["image", "rm", "--force", &self.0]);
        // The first stage has no name.
        docker(&["image", "prune", "--force", "--filter", &format!("label={LABEL}")]);
    }
}

/// A running container.
struct Running(String);

impl Running {
    fn start(image: &Image, compose: &Compose) -> Self {
        let (flags, command) = (compose.flags(), compose.value("command"));
        let command = command.as_array().expect("words").iter().map(|word| word.as_str().expect("text"));
        let run = ["run"].into_iter().chain(flags.iter().map(String::as_str)).chain([&*image.0]).chain(command);
        let container = Self(ok(docker(&run.collect::<Vec<_>>())).trim().to_owned());
        container.hears("serving demo/tiny");
        container
    }

    fn log(&self) -> String {
        ok(docker(&["logs", &self.0]))
    }

    fn hears(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "`{text}` was not said:\n{}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// As the Compose file's health check asks.
    fn is_healthy(&self, compose: &Compose) -> bool {
        let check = compose.value("test");
        let words: Vec<_> = check.as_array().expect("words").iter().map(|word| word.as_str().expect("text")).collect();
        assert_eq!(words[0], "CMD");
        docker(&[&["exec", &self.0], &words[1..]].concat()).status.success()
    }

    /// Stops it as Compose does; its exit code.
    fn stop(&self) -> i64 {
        ok(docker(&["stop", "--time", "20", &self.0]));
        ok(docker(&["inspect", "--format", "{{.State.ExitCode}}", &self.0])).trim().parse().expect("a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

fn ask(project: &Project, port: u16) -> ModelQueryReply {
    let wallet = Wallet::open(&project.path("wallets"), "demo", "default", |_| None).expect("it was made");
    let (address, key) = (SocketAddr::from(([127, 0, 0, 1], port)), KeyPair::from_uri("//Bob//vali").expect("a key"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hotkey = wallet.hotkey_ss58();
    let asked = deval_axon::query(address, &hotkey, &key, Duration::from_secs(5));
    runtime.block_on(asked).expect("it answers")
}

/// The manifest with another chain and axon.
fn with(project: &Project, chain: &str, axon: &str) {
    let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
    let (before, _) = text.split_once("[axon]").expect("it has an axon");
    let before = before.split_once("[chain]").map_or(before, |(before, _)| before);
    project.manifest_text(&format!("{before}[chain]\nendpoint = {chain:?}\n\n[axon]\n{axon}"));
}

#[test]
fn the_container_answers_reloads_and_stops() {
    let Some(base) = base() else { return };
    let project = committed();
    let [port, monitor, chain_port] = [(); 3].map(|()| free_port());
    let axon = format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n");

    // Beside a chain on this machine it has the host's network.
    let localnet = Localnet::start_on(&project, chain_port);
    with(&project, &localnet.chain, &axon);
    let compose = Compose::printed(&project);
    assert!(compose.0.contains("network_mode: host"), "{}", compose.0);
    let image = Image::build(&compose, base);
    let container = Running::start(&image, &compose);
    assert_eq!(ask(&project, port).model_id, "tiny");
    assert!(container.is_healthy(&compose));
    ok(docker(&["kill", "--signal", "HUP", &container.0]));
    container.hears("nothing changed");
    assert_eq!(container.stop(), 0, "{}", container.log());
    container.hears("stops: answers what is under way");
    assert!(project.path("target/deval/serve.json").exists());
    drop((container, localnet));

    // Else its port is published; here the chain is away, and the hotkeys are known from before.
    with(&project, "wss://chain.invalid", &axon);
    let compose = Compose::printed(&project);
    assert!(!compose.0.contains("network_mode"), "{}", compose.0);
    let container = Running::start(&image, &compose);
    assert_eq!(ask(&project, port).model_id, "tiny");
    assert!(container.is_healthy(&compose));
    assert_eq!(container.stop(), 0, "{}", container.log());
}

/// pm2 with a home of its own, ended with all that it keeps.
struct Pm2(TempDir);

impl Pm2 {
    /// Where `ci/pm2.sh` puts it.
    fn program() -> PathBuf {
        repository().join("target/deval/pm2/node_modules/.bin/pm2")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(Self::program()).args(arguments).env("PM2_HOME", self.0.path()).output().expect("it was found")
    }

    fn hears(&self, text: &str) {
        let (log, started) = (self.0.path().join("logs/deval-axon-error.log"), Instant::now());
        while !fs::read_to_string(&log).unwrap_or_default().contains(text) {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "`{text}` was not said:\n{said}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        self.run(&["kill"]);
    }
}

#[test]
fn pm2_starts_reloads_and_stops_the_axon() {
    if !Pm2::program().exists() {
        return skip("pm2", "it is not in target/deval/pm2; `bash ci/pm2.sh` installs it");
    }
    let (project, pm2) = (committed(), Pm2(TempDir::new().expect("a folder")));
    let [port, monitor] = [(); 2].map(|()| free_port());
    set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
    let printed = printed(&project, "pm2");
    let file = project.path("ecosystem.config.js");
    fs::write(&file, printed).expect("writable");
    ok(pm2.run(&["start", file.to_str().expect("UTF-8")]));
    pm2.hears("serving demo/tiny");
    assert_eq!(ask(&project, port).model_id, "tiny");
    ok(pm2.run(&["sendSignal", "SIGHUP", "deval-axon"]));
    pm2.hears("nothing changed");
    ok(pm2.run(&["stop", "deval-axon"]));
    pm2.hears("stops: answers what is under way");
    let listed: Value = serde_json::from_slice(&pm2.run(&["jlist"]).stdout).expect("JSON");
    let of = &listed[0]["pm2_env"];
    assert_eq!((&of["status"], &of["restart_time"]), (&json!("stopped"), &json!(0)), "{of:#}");
}
