//! One running container: mounts, limits, network, logs, and its removal whatever happens.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _,
    bollard::{
        Docker,
        errors::Error as EngineError,
        models::{ContainerInspectResponse, HostConfig, HostConfigLogConfig, NetworkCreateRequest},
        query_parameters::{
            InspectContainerOptions, InspectContainerOptionsBuilder, KillContainerOptionsBuilder, LogsOptionsBuilder,
        },
    },
    core::{AccessMode, IntoContainerPort as _, Mount},
    runners::AsyncRunner as _,
};
use tokio::task::JoinHandle;

use crate::{
    engine::{Engine, block_on, runtime},
    error::ContainerError,
    forward::Forward,
    gpu::Gpu,
    image::Image,
    logs::Logs,
    owner::{self, Owner},
};

/// Port of the miner API inside the container.
const PORT: u16 = 8000;
/// Where the package lies inside the container (upstream `deval/api/miner_api.py`).
const PACKAGE: &str = "/app/eval_llm";
/// Where the container may write.
const SCRATCH: &str = "/tmp";
/// User of the miner API, as the image makes it.
const USER: &str = "1000:1000";
/// Who raises the firewall, before becoming that user.
const ROOT: &str = "0:0";
/// What that takes (upstream `docker-compose.yml`).
const RIGHTS: [&str; 3] = ["NET_ADMIN", "SETUID", "SETGID"];
/// Most bytes of one log file on the engine's disk, of which it keeps two.
const LOG_FILE: &str = "16m";
/// The engine's own network, open to the outside.
const BRIDGE: &str = "bridge";
/// An address for documentation, where no name server answers.
const NO_NAME_SERVER: &str = "192.0.2.1";
/// Longest time that the engine may take to start a container; what runs inside it is waited for elsewhere.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How often Podman is asked again that is clearing up, or has nothing to tell yet, and the time between.
const CLEARING_TRIES: usize = 50;
const CLEARING: Duration = Duration::from_millis(100);
/// Longest wait for the last lines of a container that ended.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Where the container takes the package from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From a folder of this machine, mounted read-only.
    Mounted(PathBuf),
    /// From the Hub, as a validator does, behind its firewall.
    Fetched {
        /// Token of the Hub.
        token: String,
        /// The Hub, when it is not the real one.
        endpoint: Option<String>,
    },
}

/// How a container is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// `namespace/name`, which the container is told.
    pub model_url: String,
    /// The package.
    pub source: Source,
    /// GPUs.
    pub gpu: Gpu,
    /// Most bytes of memory, swap included.
    pub memory: u64,
    /// Most processes and threads.
    pub pids: u32,
    /// Most bytes under `/tmp`, the one place to write to.
    pub scratch: u64,
    /// Whether the container may reach the network; a validator's may not, but for the download.
    pub is_open: bool,
    /// Whether the image raises a firewall when `DEVAL_FIREWALL` says so, for engines where no network without a way out can be reached.
    pub has_firewall: bool,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// Folder of the locks by which containers of killed runs are told.
    pub owners: PathBuf,
}

impl RunOptions {
    /// The usual limits for a package in a folder.
    pub fn new(model_url: &str, package: &Path, owners: &Path) -> Self {
        Self {
            model_url: model_url.to_owned(),
            source: Source::Mounted(package.to_owned()),
            gpu: Gpu::Auto,
            memory: 32 << 30,
            pids: 1024,
            scratch: 2 << 30,
            is_open: false,
            has_firewall: true,
            environment: Vec::new(),
            owners: owners.to_owned(),
        }
    }

    /// Tells what the engine cannot give, before an image of gigabytes is built for it.
    ///
    /// # Errors
    /// [`ContainerError::Elsewhere`] and [`ContainerError::NoGpu`], or an engine that fails.
    pub fn check(&self, engine: &Engine) -> Result<(), ContainerError> {
        match &self.source {
            Source::Mounted(package) if !engine.info.is_local => {
                Err(ContainerError::Elsewhere { host: engine.info.host.clone(), path: package.clone() })
            }
            Source::Mounted(_) | Source::Fetched { .. } => self.gpu.check(engine, &self.owners),
        }
    }
}

/// What keeps a container from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closure {
    /// A network of its own without a way out, where we reach it by its address.
    Network,
    /// Rules that the image sets before anything of the miner's runs; on the engine's bridge.
    Firewall,
    /// Nothing; on the engine's bridge.
    None,
}

impl Closure {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Network => "closed",
            Self::Firewall => "closed by a firewall",
            Self::None => "open",
        }
    }
}

/// How a container stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) is_running: bool,
    pub(crate) exit_code: i64,
    /// Whether the kernel killed it, or a process of it, for its memory.
    pub(crate) is_out_of_memory: bool,
}

impl State {
    /// Somebody else removed it, by force.
    fn removed() -> Self {
        Self { exit_code: 137, ..Self::default() }
    }
}

/// A container that this process owns; it is removed with this value.
pub(crate) struct Running {
    docker: Docker,
    container: Option<ContainerAsync<GenericImage>>,
    pub(crate) id: String,
    /// Where the miner API answers.
    pub(crate) address: SocketAddr,
    /// What keeps it from the network.
    pub(crate) closure: Closure,
    /// Whether it has a GPU.
    pub(crate) has_gpu: bool,
    logs: Arc<Mutex<Logs>>,
    /// Keeps a local Hub in reach.
    _forward: Option<Forward>,
    following: Option<JoinHandle<()>>,
    owner: Arc<Owner>,
}

impl Running {
    /// Starts a container. It need not be ready, or even alive, when this returns.
    pub(crate) fn start(engine: &Engine, image: &Image, options: &RunOptions) -> Result<Self, ContainerError> {
        options.check(engine)?;
        let owner = Arc::new(Owner::new(&options.owners)?);
        block_on(async {
            let started = start(engine, image, options, &owner).await;
            if started.is_err() {
                // testcontainers leaves a container behind that was made but could not be started.
                owner.release(&engine.docker).await?;
            }
            started
        })
    }

    pub(crate) fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owner(&self) -> Arc<Owner> {
        Arc::clone(&self.owner)
    }

    pub(crate) async fn state(&self) -> Result<State, ContainerError> {
        let state = match inspect(&self.docker, &self.id, None).await {
            Ok(inspected) => inspected.state.unwrap_or_default(),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => return Ok(State::removed()),
            Err(error) => return Err(ContainerError::engine("looking at the container")(error)),
        };
        Ok(State {
            is_running: state.running.unwrap_or(false),
            exit_code: state.exit_code.unwrap_or(0),
            is_out_of_memory: state.oom_killed.unwrap_or(false),
        })
    }

    /// Bytes of the writable layer (upstream `get_container_size` in `deval/api/miner_docker_client.py`).
    pub(crate) async fn layer_bytes(&self) -> Result<u64, ContainerError> {
        let options = InspectContainerOptionsBuilder::new().size(true).build();
        let inspected = inspect(&self.docker, &self.id, Some(options)).await;
        let size = inspected.map_err(ContainerError::engine("measuring the container"))?.size_rw;
        Ok(u64::try_from(size.unwrap_or(0)).unwrap_or(0))
    }

    /// Waits for the last lines of a container that ended.
    pub(crate) async fn last_lines(&mut self) {
        if let Some(following) = self.following.take() {
            // Lines that do not come in time are missing, nothing more.
            let _late = tokio::time::timeout(LAST_LINES, following).await;
        }
    }

    /// Kills the container from outside.
    pub(crate) async fn kill(&self) -> Result<(), ContainerError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let killed = self.docker.kill_container(&self.id, Some(options)).await;
        killed.map_err(ContainerError::engine("stopping the container"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(following) = self.following.take() {
            following.abort();
        }
        let container = self.container.take();
        let _runtime = runtime().enter();
        drop(container);
        // What an engine that is gone could not remove is found by the next run.
        let _gone = block_on(self.owner.release(&self.docker));
    }
}

async fn start(
    engine: &Engine,
    image: &Image,
    options: &RunOptions,
    owner: &Arc<Owner>,
) -> Result<Running, ContainerError> {
    let has_gpu = options.gpu.is_wanted(engine);
    let (network, closure) = network(engine, options, owner).await?;
    let forward = match &options.source {
        Source::Fetched { endpoint: Some(endpoint), .. } => Some(Forward::to(engine, endpoint).await?),
        Source::Fetched { endpoint: None, .. } | Source::Mounted(_) => None,
    };
    let endpoint = forward.as_ref().map(|forward| forward.endpoint.as_str());
    let mut tries = 0;
    let container = loop {
        let started = request(engine, image, options, owner, (&network, closure, endpoint))?.start().await;
        match started {
            Ok(container) => break container,
            Err(error) if is_being_cleared(&error) && tries < CLEARING_TRIES => tries += 1,
            Err(error) => return Err(start_failed(options.gpu, &error)),
        }
    };
    let docker = engine.docker.clone();
    let id = container.id().to_owned();
    let logs = Arc::new(Mutex::new(Logs::default()));
    let following = Some(follow(engine, &id, &logs));
    let address = address(engine, &container).await?;
    let owner = Arc::clone(owner);
    Ok(Running {
        docker,
        container: Some(container),
        id,
        address,
        closure,
        has_gpu,
        logs,
        _forward: forward,
        following,
        owner,
    })
}

/// Where the container stands, and what keeps it there.
async fn network(engine: &Engine, options: &RunOptions, owner: &Owner) -> Result<(String, Closure), ContainerError> {
    let on_bridge = |closure| Ok((BRIDGE.to_owned(), closure));
    if matches!(options.source, Source::Fetched { .. }) {
        return on_bridge(Closure::Firewall);
    }
    if options.is_open {
        return on_bridge(Closure::None);
    }
    if engine.info.is_reachable
        && let Some(name) = closed_network(engine, owner).await?
    {
        return Ok((name, Closure::Network));
    }
    on_bridge(if options.has_firewall { Closure::Firewall } else { Closure::None })
}

/// A network without a way out; none where the engine (Podman) gives this machine no address on it, so that we could not ask either.
async fn closed_network(engine: &Engine, owner: &Owner) -> Result<Option<String>, ContainerError> {
    let failed = ContainerError::engine("making a network");
    let name = format!("deval-{}", owner.name());
    let request = NetworkCreateRequest {
        name: name.clone(),
        internal: Some(true),
        labels: Some(HashMap::from([(owner::LABEL.to_owned(), owner.label())])),
        ..NetworkCreateRequest::default()
    };
    engine.docker.create_network(request).await.map_err(&failed)?;
    if engine.gateway(&name).await.map_err(&failed)?.is_some() {
        return Ok(Some(name));
    }
    engine.docker.remove_network(&name).await.map_err(&failed)?;
    Ok(None)
}

fn request(
    engine: &Engine,
    image: &Image,
    options: &RunOptions,
    owner: &Owner,
    (network, closure, endpoint): (&str, Closure, Option<&str>),
) -> Result<ContainerRequest<GenericImage>, ContainerError> {
    let (name, tag) = image.tag.rsplit_once(':').unwrap_or((&image.tag, "latest"));
    let has_firewall = closure == Closure::Firewall;
    let mut request = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_startup_timeout(START_TIMEOUT)
        .with_network(network)
        .with_label(owner::LABEL, owner.label())
        .with_env_var("MODEL_URL", &options.model_url)
        .with_cap_drop("ALL")
        .with_security_opt("no-new-privileges:true")
        .with_user(if has_firewall { ROOT } else { USER });
    if has_firewall {
        request = RIGHTS.into_iter().fold(request, |request, right| request.with_cap_add(right));
        request = request.with_env_var("DEVAL_FIREWALL", "1");
    }
    request = match &options.source {
        Source::Mounted(package) => mounted(request, package)?,
        Source::Fetched { token, .. } => fetched(request, token, endpoint),
    };
    for (name, value) in &options.environment {
        request = request.with_env_var(name, value);
    }
    if options.gpu.is_wanted(engine) {
        request = request.with_device_requests(vec![options.gpu.request()]);
    }
    // Where we reach the container by its address, nothing is published.
    let (limits, is_published) = (options.clone(), !engine.info.is_reachable);
    Ok(request.with_host_config_modifier(move |host| {
        limit(host, &limits, is_published);
        // Engines before 26 ask the host's name server for a container that has no way out.
        host.dns = (closure == Closure::Network).then(|| vec![NO_NAME_SERVER.to_owned()]);
    }))
}

fn mounted(
    request: ContainerRequest<GenericImage>,
    package: &Path,
) -> Result<ContainerRequest<GenericImage>, ContainerError> {
    let package = package.canonicalize().map_err(ContainerError::file("read", package))?;
    let mount = Mount::bind_mount(package.to_string_lossy(), PACKAGE).with_access_mode(AccessMode::ReadOnly);
    Ok(request.with_mount(mount).with_env_var("DEVAL_FETCH", "0").with_readonly_rootfs(true))
}

/// As upstream's compose file has it.
fn fetched(
    request: ContainerRequest<GenericImage>,
    token: &str,
    endpoint: Option<&str>,
) -> ContainerRequest<GenericImage> {
    let request = request.with_env_var("DEVAL_FETCH", "1").with_env_var("HUGGINGFACE_TOKEN", token);
    endpoint.into_iter().fold(request, |request, endpoint| request.with_env_var("HF_ENDPOINT", endpoint))
}

fn limit(host: &mut HostConfig, options: &RunOptions, is_published: bool) {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let logging = [("max-size", LOG_FILE), ("max-file", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    host.memory = Some(bytes(options.memory));
    host.memory_swap = host.memory;
    host.pids_limit = Some(i64::from(options.pids));
    host.publish_all_ports = Some(is_published);
    host.log_config = Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(logging.into()) });
    let scratch = format!("rw,nosuid,nodev,mode=1777,size={}", options.scratch);
    host.tmpfs = Some(HashMap::from([(SCRATCH.to_owned(), scratch)]));
    host.init = Some(false);
}

fn start_failed(gpu: Gpu, error: &testcontainers::TestcontainersError) -> ContainerError {
    let why = crate::error::chain(error);
    gpu.refused(&why).unwrap_or(ContainerError::Engine { doing: "starting the container", why })
}

/// Whether Podman has not cleared up yet after a container that ended: it calls it `stopped` meanwhile, a word that the client does not know.
fn is_being_cleared(error: &dyn std::error::Error) -> bool {
    crate::error::chain(error).contains("unknown variant `stopped`")
}

async fn inspect(
    docker: &Docker,
    id: &str,
    options: Option<InspectContainerOptions>,
) -> Result<ContainerInspectResponse, EngineError> {
    let mut tries = 0;
    loop {
        match docker.inspect_container(id, options.clone()).await {
            Err(error) if is_being_cleared(&error) && tries < CLEARING_TRIES => tries += 1,
            answer => return answer,
        }
        tokio::time::sleep(CLEARING).await;
    }
}

fn follow(engine: &Engine, id: &str, logs: &Arc<Mutex<Logs>>) -> JoinHandle<()> {
    let options = |follow| LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).build();
    let (docker, id, logs) = (engine.docker.clone(), id.to_owned(), Arc::clone(logs));
    let is_podman = engine.info.is_podman;
    runtime().spawn(async move {
        // Podman never tells of a log that was empty when it began to follow it.
        while is_podman && std::pin::pin!(docker.logs(&id, Some(options(false)))).next().await.is_none() {
            tokio::time::sleep(CLEARING).await;
        }
        let mut stream = std::pin::pin!(docker.logs(&id, Some(options(true))));
        while let Some(Ok(piece)) = stream.next().await {
            logs.lock().unwrap_or_else(PoisonError::into_inner).add(piece.as_ref());
        }
    })
}

async fn address(engine: &Engine, container: &ContainerAsync<GenericImage>) -> Result<SocketAddr, ContainerError> {
    let doing = "finding the container's address";
    if engine.info.is_reachable {
        let inspected = inspect(&engine.docker, container.id(), None).await;
        let networks = inspected.map_err(ContainerError::engine(doing))?.network_settings.and_then(|all| all.networks);
        // It is on one network alone, which Podman calls by another name than it was asked for.
        let mut addresses = networks.into_iter().flatten().filter_map(|(_, network)| network.ip_address);
        let ip = addresses.find_map(|address| address.parse::<IpAddr>().ok());
        // A container that ended at once has no address any more; nothing will answer at this one.
        return Ok(SocketAddr::new(ip.unwrap_or(IpAddr::from([127, 0, 0, 1])), if ip.is_some() { PORT } else { 1 }));
    }
    let published = container.get_host_port_ipv4(PORT.tcp()).await;
    let Ok(port) = published else { return Ok(SocketAddr::from(([127, 0, 0, 1], 1))) };
    let host = container.get_host().await.map_err(ContainerError::testcontainers(doing))?.to_string();
    let mut found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|error| ContainerError::Engine { doing, why: format!("{host}: {error}") })?;
    found.next().ok_or(ContainerError::Engine { doing, why: format!("{host} has no address") })
}
