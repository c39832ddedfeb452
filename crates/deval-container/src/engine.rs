//! The container engine: found as testcontainers finds it, and what it can do.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::LazyLock,
};

use testcontainers::{
    bollard::{Docker, errors::Error as EngineError, models::IpamConfig},
    core::client::{ClientError, docker_client_instance},
};
use tokio::runtime::Runtime;

use crate::error::{ContainerError, chain};

/// Oldest API that will do: device requests and `host-gateway` (Docker 20.10).
const OLDEST_API: (u32, u32) = (1, 41);

/// All containers live on one runtime, because testcontainers shares one client among all of them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let builder = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    builder.expect("a process can have two more threads")
});

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// A container engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    /// What it is.
    pub info: EngineInfo,
}

/// What the engine is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Where it listens.
    pub host: String,
    /// Its version.
    pub version: String,
    /// Version of its API.
    pub api: String,
    /// Its operating system, as it calls it.
    pub system: String,
    /// Storage driver.
    pub driver: String,
    /// Whether it is Podman, which answers as Docker does.
    pub is_podman: bool,
    /// Whether it runs on this machine, so that it can mount our folders.
    pub is_local: bool,
    /// Whether this machine reaches a container by its own address, so that no port has to be published.
    pub is_reachable: bool,
    /// Whether it has a runtime for GPUs.
    pub has_gpu: bool,
}

/// Where the engine is looked for: `DOCKER_HOST`, else the usual places.
fn host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}

/// The socket of a Podman service, where there is no other engine: testcontainers does not look there by itself, so `DOCKER_HOST` has to
/// name it.
pub fn podman_socket() -> Option<PathBuf> {
    if std::env::var_os("DOCKER_HOST").is_some() || PathBuf::from("/var/run/docker.sock").exists() {
        return None;
    }
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("podman/podman.sock"));
    let system = PathBuf::from("/run/podman/podman.sock");
    user.into_iter().chain([system]).find(|path| path.exists())
}

impl Engine {
    /// Connects and asks what the engine is.
    ///
    /// # Errors
    /// No engine, none that we may use, one that is too old: each with its remedy.
    pub fn connect() -> Result<Self, ContainerError> {
        block_on(Self::find())
    }

    async fn find() -> Result<Self, ContainerError> {
        let host = host();
        let docker = docker_client_instance().await.map_err(|error| match error {
            ClientError::Init(error) => unreachable_engine(&host, &error),
            error => ContainerError::NoEngine { host: host.clone(), why: chain(&error) },
        })?;
        let version = docker.version().await.map_err(|error| unreachable_engine(&host, &error))?;
        let api = version.api_version.unwrap_or_default();
        if parse_version(&api) < Some(OLDEST_API) {
            let expected = format!("{}.{}", OLDEST_API.0, OLDEST_API.1);
            return Err(ContainerError::TooOld { host, found: api, expected });
        }
        let docker = docker.negotiate_version().await.map_err(ContainerError::engine("agreeing on a version"))?;
        let info = docker.info().await.map_err(ContainerError::engine("telling what it is"))?;
        let system = info.operating_system.unwrap_or_default();
        let is_rootless = info.security_options.iter().flatten().any(|option| option.contains("rootless"));
        let is_local = is_local(&host);
        let info = EngineInfo {
            version: version.version.unwrap_or_default(),
            api,
            driver: info.driver.unwrap_or_default(),
            is_podman: version.components.iter().flatten().any(|part| part.name.starts_with("Podman")),
            is_local,
            is_reachable: is_local && cfg!(target_os = "linux") && !is_rootless && !system.contains("Docker Desktop"),
            has_gpu: info.runtimes.iter().flatten().any(|(name, _)| name.contains("nvidia")),
            system,
            host,
        };
        Ok(Self { docker, info })
    }

    /// This machine's address on a network of the engine, if it has one there.
    pub(crate) async fn gateway(&self, network: &str) -> Result<Option<IpAddr>, EngineError> {
        Ok(told(&self.ranges(network).await?))
    }

    /// This machine's address on the engine's own bridge. Docker does not tell it before its second start: it takes the first of the range.
    pub(crate) async fn bridge_gateway(&self) -> Result<Option<IpAddr>, EngineError> {
        let ranges = self.ranges("bridge").await?;
        Ok(told(&ranges).or_else(|| ranges.iter().find_map(|range| first_address(range.subnet.as_deref()?))))
    }

    async fn ranges(&self, network: &str) -> Result<Vec<IpamConfig>, EngineError> {
        let ipam = self.docker.inspect_network(network, None).await?.ipam;
        Ok(ipam.and_then(|ipam| ipam.config).unwrap_or_default())
    }
}

/// The gateway that the engine tells. Podman writes `<nil>` for none.
fn told(ranges: &[IpamConfig]) -> Option<IpAddr> {
    ranges.iter().find_map(|range| range.gateway.as_deref()?.parse().ok())
}

/// The first address of a range such as `172.17.0.0/16`.
fn first_address(range: &str) -> Option<IpAddr> {
    let network: Ipv4Addr = range.split_once('/')?.0.parse().ok()?;
    Some(Ipv4Addr::from_bits(network.to_bits().checked_add(1)?).into())
}

/// Sockets are local, and so is what listens on loopback.
fn is_local(host: &str) -> bool {
    match host.split_once("://") {
        Some(("unix" | "npipe", _)) => true,
        Some((_, rest)) => ["127.", "localhost", "[::1]"].iter().any(|local| rest.starts_with(local)),
        None => false,
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn unreachable_engine(host: &str, error: &EngineError) -> ContainerError {
    let host = host.to_owned();
    if is_denied(error) {
        return ContainerError::Permission { host };
    }
    match error {
        EngineError::DockerResponseServerError { message, .. } if message.contains("too new") => {
            let found = message.rsplit(' ').next().unwrap_or_default().to_owned();
            ContainerError::TooOld { host, found, expected: format!("{}.{}", OLDEST_API.0, OLDEST_API.1) }
        }
        error => ContainerError::NoEngine { host, why: chain(error) },
    }
}

/// The system's error lies at different depths of the client's own, and not always as a source.
fn is_denied(error: &EngineError) -> bool {
    chain(error).to_lowercase().contains("permission denied")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn an_engine_takes_the_first_address_of_its_bridge() {
        assert_eq!(first_address("172.17.0.0/16"), Some([172, 17, 0, 1].into()));
        for none in ["", "172.17.0.0", "fd00::/64", "255.255.255.255/32"] {
            assert_eq!(first_address(none), None, "{none}");
        }
    }

    #[test]
    fn sockets_and_loopback_are_local() {
        for host in
            ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "http://localhost:2375", "npipe:////./pipe/x"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["tcp://10.0.0.2:2375", "ssh://me@host", "tcp://docker.test:2375", ""] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_socket_that_is_not_ours_names_the_group() {
        let denied = EngineError::IOError { err: std::io::Error::from(ErrorKind::PermissionDenied) };
        let error = unreachable_engine("unix:///var/run/docker.sock", &denied).to_string();
        assert!(error.contains("usermod -aG docker"), "{error}");
        let refused = EngineError::IOError { err: std::io::Error::from(ErrorKind::ConnectionRefused) };
        let error = unreachable_engine("tcp://127.0.0.1:1", &refused).to_string();
        assert!(error.contains("systemctl start docker"), "{error}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("1.5") < Some(OLDEST_API) && parse_version("1.41") >= Some(OLDEST_API));
        assert!(parse_version("1.100") > parse_version("1.99") && parse_version("") < Some(OLDEST_API));
    }
}
