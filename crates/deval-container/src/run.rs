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
        models::{DeviceRequest, HostConfig, HostConfigLogConfig, NetworkCreateRequest},
        query_parameters::{InspectContainerOptionsBuilder, KillContainerOptionsBuilder, LogsOptionsBuilder},
    },
    core::{AccessMode, IntoContainerPort as _, Mount},
    runners::AsyncRunner as _,
};
use tokio::task::JoinHandle;

use crate::{
    engine::{Engine, block_on, runtime},
    error::ContainerError,
    forward::Forward,
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
/// Most bytes of one log file on the engine's disk, of which it keeps two.
const LOG_FILE: &str = "16m";
/// The engine's own network, open to the outside.
const BRIDGE: &str = "bridge";
/// An address for documentation, where no name server answers.
const NO_NAME_SERVER: &str = "192.0.2.1";
/// Longest time that the engine may take to start a container; what runs inside it is waited for elsewhere.
const START_TIMEOUT: Duration = Duration::from_secs(120);
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

/// GPUs to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpu {
    /// All of them if the engine has any.
    Auto,
    /// None.
    None,
    /// All of them.
    All,
    /// That many.
    Count(u32),
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
            environment: Vec::new(),
            owners: owners.to_owned(),
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
    /// Whether it may reach the network.
    pub(crate) is_open: bool,
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
        let state = match self.docker.inspect_container(&self.id, None).await {
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
        let inspected = self.docker.inspect_container(&self.id, Some(options)).await;
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
    let has_gpu = wants_gpu(engine, options.gpu);
    let network = network(engine, options, owner).await?;
    let forward = match &options.source {
        Source::Fetched { endpoint: Some(endpoint), .. } => Some(Forward::to(engine, endpoint).await?),
        Source::Fetched { endpoint: None, .. } | Source::Mounted(_) => None,
    };
    let endpoint = forward.as_ref().map(|forward| forward.endpoint.as_str());
    let request = request(engine, image, options, owner, (&network, endpoint))?;
    let container = request.start().await.map_err(|error| start_failed(options.gpu, &error))?;
    let docker = engine.docker.clone();
    let id = container.id().to_owned();
    let logs = Arc::new(Mutex::new(Logs::default()));
    let following = Some(follow(&docker, &id, &logs));
    let address = address(engine, &container, &network).await?;
    let (is_open, owner) = (network == BRIDGE, Arc::clone(owner));
    Ok(Running {
        docker,
        container: Some(container),
        id,
        address,
        is_open,
        has_gpu,
        logs,
        _forward: forward,
        following,
        owner,
    })
}

fn wants_gpu(engine: &Engine, gpu: Gpu) -> bool {
    match gpu {
        Gpu::Auto => engine.info.has_gpu,
        Gpu::None | Gpu::Count(0) => false,
        Gpu::All | Gpu::Count(_) => true,
    }
}

/// A network of its own without a way out, where we reach the container by its address; else the engine's bridge.
async fn network(engine: &Engine, options: &RunOptions, owner: &Owner) -> Result<String, ContainerError> {
    let is_fetched = matches!(options.source, Source::Fetched { .. });
    if options.is_open || is_fetched || !engine.info.is_reachable {
        return Ok(BRIDGE.to_owned());
    }
    let name = format!("deval-{}", owner.name());
    let request = NetworkCreateRequest {
        name: name.clone(),
        internal: Some(true),
        labels: Some(HashMap::from([(owner::LABEL.to_owned(), owner.label())])),
        ..NetworkCreateRequest::default()
    };
    let made = engine.docker.create_network(request).await;
    made.map_err(ContainerError::engine("making a network"))?;
    Ok(name)
}

fn request(
    engine: &Engine,
    image: &Image,
    options: &RunOptions,
    owner: &Owner,
    (network, endpoint): (&str, Option<&str>),
) -> Result<ContainerRequest<GenericImage>, ContainerError> {
    let (name, tag) = image.tag.rsplit_once(':').unwrap_or((&image.tag, "latest"));
    let mut request = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_startup_timeout(START_TIMEOUT)
        .with_network(network)
        .with_label(owner::LABEL, owner.label())
        .with_env_var("MODEL_URL", &options.model_url)
        .with_cap_drop("ALL");
    request = match &options.source {
        Source::Mounted(package) => mounted(engine, request, package)?,
        Source::Fetched { token, .. } => fetched(request, token, endpoint),
    };
    for (name, value) in &options.environment {
        request = request.with_env_var(name, value);
    }
    if wants_gpu(engine, options.gpu) {
        request = request.with_device_requests(vec![devices(options.gpu)]);
    }
    // Where we reach the container by its address, nothing is published.
    let (limits, is_published, is_closed) = (options.clone(), !engine.info.is_reachable, network != BRIDGE);
    Ok(request.with_host_config_modifier(move |host| {
        limit(host, &limits, is_published);
        // Engines before 26 ask the host's name server for a container that has no way out.
        host.dns = is_closed.then(|| vec![NO_NAME_SERVER.to_owned()]);
    }))
}

fn mounted(
    engine: &Engine,
    request: ContainerRequest<GenericImage>,
    package: &Path,
) -> Result<ContainerRequest<GenericImage>, ContainerError> {
    if !engine.info.is_local {
        return Err(ContainerError::Elsewhere { host: engine.info.host.clone(), path: package.to_owned() });
    }
    let package = package.canonicalize().map_err(ContainerError::file("read", package))?;
    let mount = Mount::bind_mount(package.to_string_lossy(), PACKAGE).with_access_mode(AccessMode::ReadOnly);
    Ok(request
        .with_mount(mount)
        .with_env_var("DEVAL_FETCH", "0")
        .with_user(USER)
        .with_readonly_rootfs(true)
        .with_security_opt("no-new-privileges:true"))
}

/// As upstream's compose file: root sets up the firewall, then gives up its rights.
fn fetched(
    request: ContainerRequest<GenericImage>,
    token: &str,
    endpoint: Option<&str>,
) -> ContainerRequest<GenericImage> {
    let request =
        ["NET_ADMIN", "SETUID", "SETGID"].into_iter().fold(request, |request, right| request.with_cap_add(right));
    let request = request
        .with_env_var("DEVAL_FETCH", "1")
        .with_env_var("HUGGINGFACE_TOKEN", token)
        .with_user("0:0")
        .with_security_opt("no-new-privileges:true");
    endpoint.into_iter().fold(request, |request, endpoint| request.with_env_var("HF_ENDPOINT", endpoint))
}

fn devices(gpu: Gpu) -> DeviceRequest {
    let count = match gpu {
        Gpu::Count(count) => i64::from(count),
        Gpu::Auto | Gpu::All | Gpu::None => -1,
    };
    DeviceRequest {
        driver: Some(String::new()),
        count: Some(count),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
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
    if why.contains("could not select device driver") || why.contains("nvidia-container") {
        let asked = match gpu {
            Gpu::Auto => "auto".to_owned(),
            Gpu::None => "none".to_owned(),
            Gpu::All => "all".to_owned(),
            Gpu::Count(count) => count.to_string(),
        };
        return ContainerError::NoGpu { asked, why };
    }
    ContainerError::Engine { doing: "starting the container", why }
}

fn follow(docker: &Docker, id: &str, logs: &Arc<Mutex<Logs>>) -> JoinHandle<()> {
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
    let (docker, id, logs) = (docker.clone(), id.to_owned(), Arc::clone(logs));
    runtime().spawn(async move {
        let mut stream = std::pin::pin!(docker.logs(&id, Some(options)));
        while let Some(Ok(piece)) = stream.next().await {
            logs.lock().unwrap_or_else(PoisonError::into_inner).add(piece.as_ref());
        }
    })
}

async fn address(
    engine: &Engine,
    container: &ContainerAsync<GenericImage>,
    network: &str,
) -> Result<SocketAddr, ContainerError> {
    let doing = "finding the container's address";
    if engine.info.is_reachable {
        let inspected = engine.docker.inspect_container(container.id(), None).await;
        let networks = inspected.map_err(ContainerError::engine(doing))?.network_settings.and_then(|all| all.networks);
        let ip = networks.and_then(|mut all| all.remove(network)?.ip_address?.parse::<IpAddr>().ok());
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
