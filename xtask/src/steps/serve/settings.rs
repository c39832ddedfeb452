//! What is served and where, from the manifest, the flags and the receipts.

use std::net::{IpAddr, SocketAddr};

use deval_axon::{AxonConfig, AxonError, external};
use deval_chain::parse_as_validator;
use deval_hub::RepoId;
use deval_manifest::Wallet;
use deval_report::{Diagnostic, Inputs, Network, Step};

use crate::{
    cli::ExternalArgs,
    context::Context,
    findings::Findings,
    steps::{CommitReceipt, need, result_of},
};

/// Everything that a reload may change.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) monitor: SocketAddr,
    pub(super) external: External,
    /// What is told: the repository that was committed on chain.
    pub(super) model_url: String,
    pub(super) network: Network,
    /// Set when the manifest names an endpoint; a reload does not change it.
    pub(super) endpoint: Option<String>,
    /// A reload does not change it.
    pub(super) wallet: Wallet,
    repo_id: String,
    model_id: String,
}

/// Who tells the address that validators reach.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum External {
    Given(IpAddr),
    Interface(String),
    Asked(String),
}

impl External {
    /// The address; a stranger's server is asked only when it was named.
    pub(super) async fn resolve(&self) -> Result<IpAddr, AxonError> {
        match self {
            Self::Given(address) => Ok(*address),
            Self::Interface(name) => external::of_interface(name),
            Self::Asked(url) => external::asked_of(url).await,
        }
    }

    fn of(context: &Context, flags: &ExternalArgs) -> Result<Self, Findings> {
        let settings = &context.manifest.axon;
        let own = (!settings.ip.is_unspecified()).then_some(settings.ip);
        let flag = flags.external_ip.map(Self::Given).or_else(|| flags.external_interface.clone().map(Self::Interface));
        let flag = flag.or_else(|| flags.ask_external_ip.clone().map(Self::Asked));
        let key = settings.external_ip.map(Self::Given);
        let key = key.or_else(|| settings.external_interface.clone().map(Self::Interface));
        flag.or(key).or(own.map(Self::Given)).ok_or_else(|| {
            let finding = Diagnostic::error("serve.external-ip", "nobody knows which address validators reach")
                .found(format!("axon.ip = \"{}\" and no axon.external_ip", settings.ip))
                .expected("axon.external_ip in deval.toml")
                .help("set `external_ip` in the [axon] table to the public address of this machine");
            Findings::from(context.place(finding, "axon"))
        })
    }
}

impl Settings {
    /// From the manifest and the receipts as they are now, with what they depend on.
    ///
    /// # Errors
    /// [`Findings`] for an unknown external address, for a commitment by another hotkey or of another model, and without any.
    pub(super) fn read(context: &Context, flags: &ExternalArgs, hotkey: &str) -> anyhow::Result<(Self, Inputs)> {
        let mut inputs = Inputs::default();
        inputs.add_need(Step::Commit, &need(context, Step::Commit)?);
        let committed: CommitReceipt = result_of(context, Step::Commit)?;
        let manifest = &context.manifest;
        let external = External::of(context, flags)?;
        let model_url = committed_model(context, &committed, hotkey)?;
        let repo = RepoId::parse(&model_url)?;
        let settings = Self {
            listen: SocketAddr::new(manifest.axon.ip, manifest.axon.port),
            monitor: manifest.axon.monitor(),
            external,
            repo_id: repo.namespace().to_owned(),
            model_id: repo.name().to_owned(),
            model_url,
            network: context.network(),
            endpoint: manifest.chain.endpoint.clone(),
            wallet: manifest.wallet.clone(),
        };
        Ok((settings, inputs))
    }

    /// What the axon of this hotkey answers.
    pub(super) fn answers(&self, hotkey_ss58: String) -> AxonConfig {
        AxonConfig { hotkey_ss58, repo_id: self.repo_id.clone(), model_id: self.model_id.clone() }
    }

    /// A finding when validators on the Internet cannot reach the address that is announced to them.
    pub(super) fn unreachable(&self, address: IpAddr, context: &Context) -> Option<Diagnostic> {
        if !self.network.is_real() || external::is_public(address) {
            return None;
        }
        let finding = Diagnostic::warning("serve.private-address", "validators cannot reach the announced address")
            .found(format!("{address}, which is private"))
            .expected("an address of the Internet")
            .help("name the public address with `--external-ip` or `axon.external_ip`, and forward the port to this machine");
        Some(context.place(finding, "axon"))
    }

    /// Path and query of the chain's endpoint, where providers put their customers' keys.
    pub(super) fn secret_path(&self) -> Option<String> {
        let (_, rest) = self.endpoint.as_deref()?.split_once("://")?;
        rest.find('/').map(|start| rest[start..].to_owned())
    }
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
        return Err(Findings::from(finding).into());
    }
    let told = parse_as_validator(committed.payload.as_bytes()).ok().and_then(|view| view.model_url);
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
