//! What is served and where, from the manifest, the flags and the receipts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use deval_axon::{
    AxonError,
    external::{asked_of, is_public, of_interface},
    start::{Settings, WalletPlace},
};
use deval_chain::parse_as_validator;
use deval_hub::RepoId;
use deval_model::WeightsDigest;
use deval_report::{Diagnostic, Inputs, Step};

use crate::{
    cli::ExternalArgs,
    context::Context,
    findings::Findings,
    steps::{CommitReceipt, need, result_of},
};

/// Who tells the address that validators reach.
enum External {
    Given(IpAddr),
    Interface(String),
    Asked(String),
}

impl External {
    /// The address; a stranger's server is asked only when it was named.
    async fn resolve(&self) -> Result<IpAddr, AxonError> {
        match self {
            Self::Given(address) => Ok(*address),
            Self::Interface(name) => of_interface(name),
            Self::Asked(url) => asked_of(url).await,
        }
    }
}

/// From the manifest and the receipts as they are now, with what they depend on.
///
/// # Errors
/// An external address that its source does not tell; [`Findings`] for one without a source, for a commitment by another hotkey or of another model, and without any.
pub(super) fn read(context: &Context, flags: &ExternalArgs, hotkey: &str) -> anyhow::Result<(Settings, Inputs)> {
    let mut inputs = Inputs::default();
    inputs.add_need(Step::Commit, &need(context, Step::Commit)?);
    let committed: CommitReceipt = result_of(context, Step::Commit)?;
    let manifest = &context.manifest;
    let external = external(context, flags)?;
    let repo = RepoId::parse(&committed_model(context, &committed, hotkey)?)?;
    let wallet = &manifest.wallet;
    let settings = Settings {
        listen: SocketAddr::new(manifest.axon.ip, manifest.axon.port),
        monitor: manifest.axon.monitor(),
        external: context.runtime.block_on(external.resolve())?,
        repo_id: repo.namespace().to_owned(),
        model_id: repo.name().to_owned(),
        network: context.network(),
        endpoint: manifest.chain.endpoint.clone(),
        wallet: WalletPlace {
            path: context.path(&wallet.path),
            name: wallet.name.clone(),
            hotkey: wallet.hotkey.clone(),
        },
    };
    Ok((settings, inputs))
}

fn external(context: &Context, flags: &ExternalArgs) -> Result<External, Findings> {
    let settings = &context.manifest.axon;
    let own = (!settings.ip.is_unspecified()).then_some(settings.ip);
    let flag = flags.external_ip.map(External::Given);
    let flag = flag.or_else(|| flags.external_interface.clone().map(External::Interface));
    let flag = flag.or_else(|| flags.ask_external_ip.clone().map(External::Asked));
    let key = settings.external_ip.map(External::Given);
    let key = key.or_else(|| settings.external_interface.clone().map(External::Interface));
    flag.or(key).or(own.map(External::Given)).ok_or_else(|| {
        let finding = Diagnostic::error("serve.external-ip", "nobody knows which address validators reach")
            .found(format!("axon.ip = \"{}\" and no axon.external_ip", settings.ip))
            .expected("axon.external_ip in deval.toml")
            .help("set `external_ip` in the [axon] table to the public address of this machine");
        Findings::from(context.place(finding, "axon"))
    })
}

/// A finding when the weights here, as `hash` last read them, are not those that the chain knows: the axon serves what was committed.
pub(super) fn other_weights(context: &Context) -> Option<Diagnostic> {
    let committed = context.store.read::<CommitReceipt>(Step::Commit.name())?.result?.model_hash;
    let here = context.store.read::<WeightsDigest>(Step::Hash.name())?.result?.model_hash;
    let finding = Diagnostic::warning("serve.other-weights", "the weights here are not those of the chain commitment");
    let help = "what was committed is served; for the weights here run `publish --execute` and `commit --execute`";
    let finding = finding.found(&here).expected(&committed).help(help);
    (here != committed).then(|| context.place(finding, "submission.model_dir"))
}

/// A finding when the chain takes no such address, or validators on the Internet cannot reach what is announced to them.
pub(super) fn unreachable(address: IpAddr, context: &Context) -> Option<Diagnostic> {
    if address.is_loopback() || address.is_unspecified() || address == Ipv4Addr::BROADCAST {
        let finding = Diagnostic::warning("serve.no-address", "nobody can reach the announced address")
            .found(address.to_string())
            .expected("an address that this machine has for others; the chain refuses this one with InvalidIpAddress")
            .help("name it with `--external-ip` or `axon.external_ip`");
        return Some(context.place(finding, "axon"));
    }
    if !context.network().is_real() || is_public(address) {
        return None;
    }
    let finding = Diagnostic::warning("serve.private-address", "validators cannot reach the announced address")
        .found(format!("{address}, which is private"))
        .expected("an address of the Internet")
        .help(
            "name the public address with `--external-ip` or `axon.external_ip`, and forward the port to this machine",
        );
    Some(context.place(finding, "axon"))
}

/// Path and query of the chain's endpoint, where providers put their customers' keys.
pub(super) fn secret_path(context: &Context) -> Option<String> {
    let (_, rest) = context.manifest.chain.endpoint.as_deref()?.split_once("://")?;
    rest.find('/').map(|start| rest[start..].to_owned())
}

/// Passwords of keys that the server does not find in its environment.
pub(super) fn passwords(context: &Context) -> BTreeMap<String, String> {
    context.secrets.not_in_environment("BT_PW_")
}

/// The model that was committed with this wallet, and that the manifest names.
fn committed_model(context: &Context, committed: &CommitReceipt, hotkey: &str) -> anyhow::Result<String> {
    if committed.network != context.network() {
        let finding = Diagnostic::error("serve.other-network", "the chain commitment was made on another network")
            .found(committed.network.to_string())
            .expected(context.network().to_string())
            .help("run `cargo xtask publish --execute` and `cargo xtask commit --execute` for this network");
        return Err(Findings::from(context.place(finding, "submission.network")).into());
    }
    if committed.hotkey != hotkey {
        let finding = Diagnostic::error("serve.other-hotkey", "the chain commitment was made with another hotkey")
            .found(&committed.hotkey)
            .expected(hotkey)
            .help("run `cargo xtask commit --execute` with this wallet");
        return Err(Findings::from(context.place(finding, "wallet.hotkey")).into());
    }
    let told = parse_as_validator(committed.payload.as_bytes()).ok();
    let (told, hash) = told.map_or((None, None), |view| (view.model_url, view.model_hash));
    if hash.as_ref() != Some(&committed.model_hash) {
        let finding = Diagnostic::error("serve.receipt", "the receipt of `commit` tells two model hashes");
        let finding = finding.in_file("target/deval/commit.json").expected(&committed.model_hash);
        let finding = finding.found(hash.unwrap_or_else(|| committed.payload.clone()));
        return Err(Findings::from(finding.help("run `cargo xtask commit --execute` again")).into());
    }
    let wanted = &context.manifest.submission.model_url;
    if told.as_ref() == Some(wanted) {
        return Ok(wanted.clone());
    }
    let finding = Diagnostic::error("serve.other-model", "the manifest names another model than the chain commitment")
        .found(told.unwrap_or_else(|| committed.payload.clone()))
        .expected(wanted)
        .help("run `cargo xtask commit --execute`, so that axon and chain tell the same");
    Err(Findings::from(context.place(finding, "submission.model_url")).into())
}
