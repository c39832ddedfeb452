//! A way from inside a container to a Hub that listens on this machine's loopback alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    engine::{Engine, runtime},
    error::ContainerError,
};

/// Forwards while it lives.
pub(crate) struct Forward {
    /// The endpoint as the container reaches it.
    pub(crate) endpoint: String,
    task: Option<JoinHandle<()>>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Forward {
    /// A Hub on loopback is offered where the container finds this machine: at the gateway of the engine's bridge, or at the address from
    /// which this machine reaches an engine elsewhere. Every other endpoint is left as it is.
    pub(crate) async fn to(engine: &Engine, endpoint: &str) -> Result<Self, ContainerError> {
        let Some(port) = loopback_port(endpoint) else {
            return Ok(Self { endpoint: endpoint.to_owned(), task: None });
        };
        let doing = "offering the local Hub to the container";
        let failed = |why: String| ContainerError::Engine { doing, why };
        let here = if engine.info.is_reachable {
            let gateway = engine.bridge_gateway().await.map_err(ContainerError::engine(doing))?;
            gateway.ok_or_else(|| failed("its bridge has no gateway".to_owned()))?
        } else if engine.info.is_local {
            // The engine's virtual machine, which knows this one by name.
            return Ok(Self { endpoint: format!("http://host.docker.internal:{port}"), task: None });
        } else {
            address_towards(&engine.info.host).map_err(failed)?
        };
        let listener = TcpListener::bind((here, 0)).await.map_err(|error| failed(format!("{here}: {error}")))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let task = runtime().spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], port))));
        Ok(Self { endpoint: format!("http://{address}"), task: Some(task) })
    }
}

/// The address that this machine has on its way to an engine, such as `tcp://10.0.0.2:2375`. Nothing is sent.
fn address_towards(engine: &str) -> Result<IpAddr, String> {
    let authority = engine.split_once("://").map_or(engine, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let towards = |any: IpAddr| {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((host, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let found: std::io::Result<_> = towards([0, 0, 0, 0].into()).or_else(|_| towards(Ipv6Addr::UNSPECIFIED.into()));
    found.map_err(|error| format!("no way to {host}: {error}"))
}

async fn accept(listener: TcpListener, hub: SocketAddr) {
    while let Ok((mut client, _)) = listener.accept().await {
        runtime().spawn(async move {
            if let Ok(mut server) = TcpStream::connect(hub).await {
                // Either side may hang up at any time; the other one then sees it.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

/// The port of an endpoint such as `http://127.0.0.1:8080`.
fn loopback_port(endpoint: &str) -> Option<u16> {
    let (host, port) = endpoint.strip_prefix("http://")?.trim_end_matches('/').rsplit_once(':')?;
    let is_loopback = host.starts_with("127.") || ["localhost", "[::1]"].contains(&host);
    if is_loopback { port.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_an_engine_elsewhere_has_an_address_here() {
        for engine in ["tcp://127.0.0.9:2375", "ssh://me@127.0.0.1", "http://127.0.0.1:80/path"] {
            assert_eq!(address_towards(engine), Ok(IpAddr::from([127, 0, 0, 1])), "{engine}");
        }
        assert_eq!(address_towards("tcp://[::1]:2375"), Ok(IpAddr::from(Ipv6Addr::LOCALHOST)));
        assert!(address_towards("tcp://no-such-host.invalid:2375").is_err());
    }

    #[test]
    fn only_loopback_is_forwarded() {
        assert_eq!(loopback_port("http://127.0.0.1:8080/"), Some(8080));
        assert_eq!(loopback_port("http://localhost:1"), Some(1));
        for endpoint in ["https://huggingface.co", "http://10.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x"] {
            assert_eq!(loopback_port(endpoint), None, "{endpoint}");
        }
    }
}
