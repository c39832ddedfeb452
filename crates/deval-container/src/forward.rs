//! A way from inside a container to a Hub that listens on this machine's loopback alone.

use std::net::{IpAddr, SocketAddr};

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
    /// A Hub on loopback is offered at the gateway of the engine's bridge, which a validator's firewall lets through; every other endpoint
    /// is left as it is.
    pub(crate) async fn to(engine: &Engine, endpoint: &str) -> Result<Self, ContainerError> {
        let Some(port) = loopback_port(endpoint) else {
            return Ok(Self { endpoint: endpoint.to_owned(), task: None });
        };
        if !engine.info.is_reachable {
            return Ok(Self { endpoint: format!("http://host.docker.internal:{port}"), task: None });
        }
        let doing = "offering the local Hub to the container";
        let failed = |why: String| ContainerError::Engine { doing, why };
        let bridge = engine.docker.inspect_network("bridge", None).await.map_err(ContainerError::engine(doing))?;
        let ranges = bridge.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateway = ranges.into_iter().find_map(|range| range.gateway?.parse::<IpAddr>().ok());
        let gateway = gateway.ok_or_else(|| failed("its bridge has no gateway".to_owned()))?;
        let listener = TcpListener::bind((gateway, 0)).await.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let task = runtime().spawn(accept(listener, SocketAddr::from(([127, 0, 0, 1], port))));
        Ok(Self { endpoint: format!("http://{address}"), task: Some(task) })
    }
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
    fn only_loopback_is_forwarded() {
        assert_eq!(loopback_port("http://127.0.0.1:8080/"), Some(8080));
        assert_eq!(loopback_port("http://localhost:1"), Some(1));
        for endpoint in ["https://huggingface.co", "http://10.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x"] {
            assert_eq!(loopback_port(endpoint), None, "{endpoint}");
        }
    }
}
