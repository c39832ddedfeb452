//! One connection that is made anew when it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use subxt::rpcs::client::ReconnectingRpcClient;
use subxt::rpcs::client::reconnecting_rpc_client::ExponentialBackoff;
use subxt::rpcs::utils::url_is_secure;
use subxt::rpcs::{Error, RpcClient};

/// Tries to make a broken connection anew; with the pauses between them, some 50 seconds.
const ATTEMPTS: usize = 12;
const FIRST_PAUSE_MILLISECONDS: u64 = 100;
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a node answers at most: metadata is below one MiB, a page of storage below ten.
const MOST_RESPONSE_BYTES: u32 = 32 << 20;

/// The pauses between attempts. There are none before the first connection stands: an endpoint that is down is told at once.
#[derive(Debug, Clone)]
struct Pauses {
    connected: Arc<AtomicBool>,
    next: std::iter::Take<ExponentialBackoff>,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.connected.load(Relaxed) { self.next.next() } else { None }
    }
}

/// The endpoint without what may be a key: name and password, path, query.
pub(super) fn shown(endpoint: &str) -> String {
    let Some((scheme, rest)) = endpoint.split_once("://") else { return endpoint.to_owned() };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let hidden = behind.len() > 1 || host.len() < authority.len();
    format!("{scheme}://{host}{}", if hidden { "/…" } else { "" })
}

/// Opens `endpoint`, `wss://…` or `ws://` on this machine.
pub(super) async fn open(endpoint: &str) -> Result<RpcClient, Error> {
    let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("ws" | "wss")) {
        let reason =
            "no WebSocket address; write `wss://host:port`, or `ws://127.0.0.1:port` for a node on this machine";
        return Err(Error::Client(reason.into()));
    }
    if !url_is_secure(endpoint)? {
        return Err(Error::Client("insecure: plain `ws://` is for a node on this machine only; write `wss://`".into()));
    }
    let connected = Arc::new(AtomicBool::new(false));
    let backoff = ExponentialBackoff::from_millis(FIRST_PAUSE_MILLISECONDS).max_delay(LONGEST_PAUSE);
    let pauses = Pauses { connected: connected.clone(), next: backoff.take(ATTEMPTS) };
    let builder = ReconnectingRpcClient::builder().retry_policy(pauses).max_response_size(MOST_RESPONSE_BYTES);
    let client = builder.build(endpoint).await.map_err(|e| Error::Client(Box::new(e)))?;
    connected.store(true, Relaxed);
    Ok(RpcClient::new(client))
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_endpoint_is_shown_without_its_keys() {
        for (endpoint, wanted) in [
            ("wss://entrypoint-finney.opentensor.ai:443", "wss://entrypoint-finney.opentensor.ai:443"),
            ("ws://[::1]:9944/", "ws://[::1]:9944"),
            ("wss://name:secret@node:443", "wss://node:443/…"),
            ("wss://node/v1/secret", "wss://node/…"),
            ("wss://node?apikey=secret", "wss://node/…"),
            ("wss://secret@a@node/#secret", "wss://node/…"),
            ("localhost:9944", "localhost:9944"),
            ("", ""),
        ] {
            assert_eq!(shown(endpoint), wanted);
        }
    }
}
