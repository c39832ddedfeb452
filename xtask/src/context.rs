//! One submission and everything its steps share: manifest, folders, reports, secrets, runtime.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use deval_axon::start::Companion;
use deval_llama::DeviceChoice;
use deval_manifest::{Backend, Manifest, Parsed, Reading, Until, parse};
use deval_model::{WeightsDigest, digest_weights};
use deval_report::{Diagnostic, Network, Step};

use crate::{
    cli::{BackendArg, EvaluateArgs, Global, ReadingArg, UntilArg},
    findings::Findings,
    localnet::Localnet,
    secrets::Secrets,
    store::Store,
    ui::{Ui, Unit},
};

pub(crate) struct Context {
    pub(crate) manifest: Manifest,
    pub(crate) store: Store,
    pub(crate) ui: Ui,
    pub(crate) secrets: Secrets,
    pub(crate) rerun: bool,
    /// Flags of `evaluate`; they have been put into the manifest already.
    pub(crate) flags: EvaluateArgs,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Fingerprints of the steps that stand in this run.
    pub(crate) ensured: RefCell<BTreeMap<Step, String>>,
    parsed: Parsed,
    root: PathBuf,
    weights: OnceCell<WeightsDigest>,
    localnet: OnceCell<Localnet>,
}

impl Context {
    /// Reads the manifest.
    ///
    /// # Errors
    /// [`Findings`] when the manifest has any; all of them at once.
    pub(crate) fn open(global: &Global, ui: Ui) -> anyhow::Result<Self> {
        let path = &global.manifest;
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the manifest {} (name another with --manifest)", path.display()))?;
        let name = path.file_name().map_or_else(|| "deval.toml".into(), |name| name.to_string_lossy());
        let parsed = parse(&text, &name);
        let manifest = match &parsed.manifest {
            Some(manifest) if parsed.diagnostics.is_empty() => manifest.clone(),
            _ => return Err(Findings(parsed.diagnostics).into()),
        };
        let path = path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))?;
        let root = path.parent().context("a manifest has a folder")?.to_owned();
        Ok(Self {
            store: Store::new(root.join("target/deval")),
            secrets: Secrets::beside(&root, ui)?,
            runtime: tokio::runtime::Runtime::new().context("cannot start the async runtime")?,
            rerun: global.rerun,
            flags: EvaluateArgs::default(),
            ensured: RefCell::default(),
            weights: OnceCell::new(),
            localnet: OnceCell::new(),
            manifest,
            parsed,
            root,
            ui,
        })
    }

    /// The same submission with the flags of `evaluate` in the place of the manifest's keys.
    ///
    /// # Errors
    /// [`Findings`] for a share of wrong labels that is none; a path that cannot be made absolute.
    pub(crate) fn with_flags(mut self, flags: EvaluateArgs) -> anyhow::Result<Self> {
        let settings = &mut self.manifest.evaluate;
        if let Some(file) = &flags.examples {
            settings.examples = Some(std::path::absolute(file)?.to_string_lossy().into_owned());
        }
        if let Some(per_task) = flags.per_task {
            (settings.examples, settings.examples_per_task) = (None, per_task);
        }
        settings.seed = flags.seed.unwrap_or(settings.seed);
        settings.samples = flags.samples.unwrap_or(settings.samples);
        settings.label_noise = flags.label_noise.unwrap_or(settings.label_noise);
        settings.until = flags.until.map_or(settings.until, UntilArg::value);
        settings.device = flags.device.clone().unwrap_or_else(|| settings.device.clone());
        settings.reading = flags.reading.map_or(settings.reading, ReadingArg::value);
        let implied = (!flags.container.ask_nothing_else()).then_some(BackendArg::Container);
        settings.backend = flags.backend.or(implied).map_or(settings.backend, BackendArg::value);
        let container = &mut self.manifest.container;
        container.gpu = flags.container.gpu.unwrap_or(container.gpu);
        container.base = flags.container.base.clone().or_else(|| container.base.take());
        if !(0.0..=0.49).contains(&settings.label_noise) {
            let finding = Diagnostic::error("evaluate.label-noise", "`--label-noise` is out of range");
            let finding = finding.found(settings.label_noise.to_string()).expected("0 to 0.49");
            return Err(Findings::from(finding.help("choose a value inside the range")).into());
        }
        self.flags = flags;
        Ok(self)
    }

    /// The device that the native engine computes on.
    ///
    /// # Errors
    /// [`Findings`] for a name that is none.
    pub(crate) fn device(&self) -> Result<DeviceChoice, Findings> {
        let name = &self.manifest.evaluate.device;
        name.parse().map_err(|_| {
            let finding = Diagnostic::error("evaluate.device", "`device` names no device").found(format!("{name:?}"));
            let finding = finding.expected("\"auto\", \"cpu\" or \"cuda:N\"").help("\"cpu\" works everywhere");
            self.place(finding, "evaluate.device").into()
        })
    }

    /// Class of the device that the native engine computes on; snapshots are kept apart by it.
    ///
    /// # Errors
    /// As [`Context::device`].
    pub(crate) fn device_class(&self) -> Result<&'static str, Findings> {
        Ok(if self.device()?.is_gpu() { "cuda" } else { "cpu" })
    }

    /// A path of the manifest, relative to its folder; a leading `~` is the home directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        match (relative.strip_prefix("~/"), env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.root.join(relative),
        }
    }

    /// Where steps leave their outputs.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.root.join("target/deval").join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn network(&self) -> Network {
        self.manifest.submission.network
    }

    pub(crate) fn model_dir(&self) -> PathBuf {
        self.path(&self.manifest.submission.model_dir)
    }

    pub(crate) fn pipeline_dir(&self) -> PathBuf {
        self.path(&self.manifest.submission.pipeline_dir)
    }

    /// Puts a finding about a manifest value where that value is written, else where its table is.
    pub(crate) fn place(&self, mut finding: Diagnostic, key: &str) -> Diagnostic {
        if finding.place.is_none() {
            let table = || self.parsed.place(key.rsplit_once('.')?.0);
            finding.place = self.parsed.place(key).or_else(table).cloned();
        }
        finding
    }

    /// The side cache of the digests of the weights.
    pub(crate) fn weights_cache(&self) -> PathBuf {
        self.out("cache/weights.json")
    }

    /// Digests of the weights: read once, kept in a side cache, never read again while unchanged.
    pub(crate) fn weights(&self) -> anyhow::Result<&WeightsDigest> {
        if let Some(known) = self.weights.get() {
            return Ok(known);
        }
        let digest = self.weights_now()?;
        Ok(self.weights.get_or_init(|| digest))
    }

    /// Digests of the weights as they are now, whatever this run knows of them: looked at again, and read only where they changed.
    pub(crate) fn weights_now(&self) -> anyhow::Result<WeightsDigest> {
        let bar = self.ui.bar("reading the weights", 0, Unit::Bytes);
        let cache = self.weights_cache();
        let started = Instant::now();
        let digest = digest_weights(&self.model_dir(), Some(&cache), &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let digest = digest?;
        if !digest.from_cache {
            let (bytes, seconds) = (digest.bytes as f64, started.elapsed().as_secs_f64());
            let (gigabytes, rate) = (bytes / 1e9, bytes / 1e9 / seconds.max(1e-9));
            self.ui.say(format!("read {gigabytes:.2} GB of weights in {seconds:.1} s ({rate:.2} GB/s)"));
        }
        Ok(digest)
    }

    /// The local Hub and chain, started when first asked for.
    pub(crate) fn localnet(&self) -> anyhow::Result<&Localnet> {
        if let Some(running) = self.localnet.get() {
            return Ok(running);
        }
        let started = Localnet::reuse_or_start(&self.out("localnet"), self.ui)?;
        Ok(self.localnet.get_or_init(|| started))
    }

    /// The local Hub and chain, if this process started them, as the program that takes its place knows them.
    pub(crate) fn companion(&self) -> anyhow::Result<Option<Companion>> {
        self.localnet.get().map_or(Ok(None), Localnet::survive)
    }

    /// The Hub's endpoint: the manifest's, else the network's own.
    pub(crate) fn hub_endpoint(&self) -> anyhow::Result<String> {
        match (&self.manifest.hub.endpoint, self.network()) {
            (Some(endpoint), _) => Ok(endpoint.clone()),
            (None, Network::Local) => Ok(self.localnet()?.hub.clone()),
            (None, Network::Test | Network::Finney) => Ok("https://huggingface.co".into()),
        }
    }

    /// The chain's endpoint: the manifest's, else the network's own.
    pub(crate) fn chain_endpoint(&self) -> anyhow::Result<String> {
        match (&self.manifest.chain.endpoint, self.network()) {
            (Some(endpoint), _) => Ok(endpoint.clone()),
            (None, Network::Local) => Ok(self.localnet()?.chain.clone()),
            (None, Network::Test) => Ok("wss://test.finney.opentensor.ai:443".into()),
            (None, Network::Finney) => Ok("wss://entrypoint-finney.opentensor.ai:443".into()),
        }
    }
}

impl BackendArg {
    fn value(self) -> Backend {
        match self {
            Self::Native => Backend::Native,
            Self::Container => Backend::Container,
        }
    }
}

impl ReadingArg {
    fn value(self) -> Reading {
        match self {
            Self::Generate => Reading::Generate,
            Self::Constrained => Reading::Constrained,
            Self::Likelihood => Reading::Likelihood,
        }
    }
}

impl UntilArg {
    fn value(self) -> Until {
        match self {
            Self::All => Until::All,
            Self::Settled => Until::Settled,
        }
    }
}
