//! `serve --print`: what keeps the axon running, written for this machine.

use std::{fmt::Write as _, fs, net::IpAddr, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use deval_report::Network;
use reqwest::Url;
use serde_json::json;

use crate::{
    Verdict, cargo,
    cli::{Global, Keeper},
    context::Context,
};

/// Prints the file that a supervisor needs. Nothing is installed.
pub(crate) fn print(context: &Context, global: &Global, keeper: Keeper) -> anyhow::Result<Verdict> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let manifest = global.manifest.canonicalize().context("the manifest was just read")?;
    let (program, manifest) = (text(&program)?, text(&manifest)?);
    if keeper != Keeper::Container {
        // It lies there when the supervisor wants it.
        cargo::program("deval-axon", context.ui)?;
    }
    let command = [program, "--manifest", manifest, "serve", "--execute", "--log", "json"];
    context.ui.print(match keeper {
        Keeper::Systemd => systemd(context, &command)?,
        Keeper::Pm2 => pm2(context, &command)?,
        Keeper::Container => container(context, &command)?,
    });
    Ok(Verdict::Ok)
}

/// A path as text.
pub(super) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8, which none of these files can hold", path.display()))
}

fn systemd(context: &Context, command: &[&str]) -> anyhow::Result<String> {
    let command: Vec<_> = command.iter().map(|word| unit_word(word)).collect();
    let root = text(context.root())?;
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    Ok(format!(
        "# cargo xtask serve --print systemd | sudo tee /etc/systemd/system/deval-axon.service
# sudo systemctl daemon-reload && sudo systemctl enable --now deval-axon
# Logs: journalctl -u deval-axon --output cat
[Unit]
Description=De-Val axon of {model}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={user}
WorkingDirectory={directory}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=10
# Findings about the submission: starting again would find the same.
RestartPreventExitStatus=1
TimeoutStopSec=20
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={reports}
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX

[Install]
WantedBy=multi-user.target
",
        model = context.manifest.submission.model_url,
        directory = unit_path(root),
        command = command.join(" "),
        reports = unit_word(&format!("{root}/target/deval")),
    ))
}

/// A word of a unit's command line.
fn unit_word(word: &str) -> String {
    format!("\"{}\"", unit_path(word).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$"))
}

/// A path that is a whole value; systemd takes percent signs for its own.
fn unit_path(path: &str) -> String {
    path.replace('%', "%%")
}

/// JSON is JavaScript.
fn pm2(context: &Context, command: &[&str]) -> anyhow::Result<String> {
    let app = json!({
        "name": "deval-axon",
        "script": command[0],
        "args": command[1..],
        "interpreter": "none",
        "cwd": text(context.root())?,
        "exp_backoff_restart_delay": 1000,
        "stop_exit_codes": [0, 1],
        "kill_timeout": 20_000,
    });
    let apps = serde_json::to_string_pretty(&json!({ "apps": [app] }))?;
    Ok(format!(
        "// cargo xtask serve --print pm2 > ecosystem.config.js\n// pm2 start ecosystem.config.js && pm2 save\n\
         // Reload after a change of deval.toml: by itself, or pm2 sendSignal SIGHUP deval-axon\nmodule.exports = {apps};"
    ))
}

/// The submission and the wallets are mounted where they are, so that every path of the manifest holds inside too.
fn container(context: &Context, command: &[&str]) -> anyhow::Result<String> {
    let (axon, health) = (&context.manifest.axon, context.manifest.axon.monitor());
    let wallets = context.path(&context.manifest.wallet.path);
    let home = std::env::home_dir().unwrap_or_else(|| "/root".into());
    let (root, wallets) = (text(context.root())?, text(&wallets)?);
    let mut mounts = String::new();
    // The reports are written: the receipt, and the registered hotkeys for the next start.
    for (path, read_only) in [(root, true), (wallets, true), (&format!("{root}/target/deval"), false)] {
        let mount = json!({ "type": "bind", "source": path, "target": path, "read_only": read_only });
        writeln!(mounts, "      - {}", value(&mount))?;
    }
    // Keys are for their owner only.
    let owner = fs::metadata(wallets).or_else(|_| fs::metadata(root)).context("the manifest's folder is there")?;
    let network = match is_of_the_host(context) {
        true => "network_mode: host".to_owned(),
        false => format!("ports:\n      - \"{0}:{0}\"", axon.port),
    };
    Ok(format!(
        r#"# cargo xtask serve --print container > compose.yaml
# docker compose up --build --detach
# Reload after a change of deval.toml: by itself, or docker compose kill --signal SIGHUP axon
services:
  axon:
    build:
      context: {source}
      dockerfile_inline: |
        FROM rust:1.95-slim-bookworm AS build
        RUN apt-get update && apt-get install --yes --no-install-recommends build-essential git
        WORKDIR /source
        COPY . .
        RUN cargo build --locked --package xtask --package deval-axon
        FROM debian:bookworm-slim
        RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates \
            && rm -rf /var/lib/apt/lists/*
        COPY --from=build /source/target/debug/xtask /source/target/debug/deval-axon /usr/local/bin/
        ENTRYPOINT ["/usr/local/bin/xtask"]
    command: {arguments}
    user: "{user}:{group}"
    environment:
      HOME: {home}
    working_dir: {directory}
    {network}
    volumes:
{mounts}    restart: on-failure
    stop_grace_period: 20s
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    healthcheck:
      test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/{health_ip}/{health_port} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
      interval: 30s
"#,
        source = value(&json!(text(cargo::root())?)),
        arguments = value(&json!(command[1..])),
        home = value(&json!(text(&home)?)),
        directory = value(&json!(root)),
        user = owner.uid(),
        group = owner.gid(),
        health_ip = health.ip(),
        health_port = health.port(),
    ))
}

/// A value of a Compose file: JSON is YAML, and Compose takes dollar signs for its own.
fn value(json: &serde_json::Value) -> String {
    json.to_string().replace('$', "$$")
}

/// Whether the axon needs the host's network: an interface or an address of the host, or a chain that runs there, is none that a
/// container of its own network has.
fn is_of_the_host(context: &Context) -> bool {
    let axon = &context.manifest.axon;
    let chain = match &context.manifest.chain.endpoint {
        Some(endpoint) => is_loopback(endpoint),
        None => context.network() == Network::Local,
    };
    chain || axon.external_interface.is_some() || !axon.ip.is_unspecified()
}

fn is_loopback(endpoint: &str) -> bool {
    let host = Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn a_chain_on_this_machine_is_told_by_its_address() {
        for own in ["ws://127.0.0.1:9944", "ws://127.1.2.3", "ws://[::1]:9944/", "ws://localhost:9944"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["wss://entrypoint-finney.opentensor.ai:443", "wss://192.0.2.1", "wss://[2001:db8::1]", "", "127.0.0.1"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
