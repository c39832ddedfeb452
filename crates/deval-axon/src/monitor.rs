//! The second port: how the axon stands, for probes (`/health`) and for Prometheus (`/metrics`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::{Axon, Subnet};

/// Probes and scrapers at a time; there is one of each.
const CONNECTIONS: usize = 64;
/// How long a request's headers may take, and how long a connection may idle.
const HEADER_TIME: Duration = Duration::from_secs(60);

/// What the second port looks at.
#[derive(Clone)]
struct Watched {
    axon: Axon,
    subnet: Arc<Subnet>,
    hotkey: Arc<str>,
}

/// `/health` (200, or 503 when every validator is refused; the body tells why) and `/metrics`. It tells nothing secret, but belongs on a
/// private address.
pub fn monitor(axon: Axon, subnet: Arc<Subnet>, hotkey_ss58: &str) -> Router {
    let watched = Watched { axon, subnet, hotkey: hotkey_ss58.into() };
    Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(watched)
}

/// Answers on the second port until the future is dropped. HTTP/1 only: `axum::serve` would bring HTTP/2 into the server's memory.
pub async fn serve_monitor(listener: TcpListener, router: Router) {
    let (service, mut connections) = (TowerToHyperService::new(router), JoinSet::new());
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let mut builder = http1::Builder::new();
                    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
                    connections.spawn(builder.serve_connection(TokioIo::new(stream), service.clone()));
                }
                // Out of descriptors: those in use are given back with their connections.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            // Whatever a prober did, it is its own affair.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn health(State(watched): State<Watched>) -> impl IntoResponse {
    let standing = watched.subnet.standing(&watched.hotkey);
    let status = if standing.serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(standing))
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    let standing = watched.subnet.standing(&watched.hotkey);
    let text = watched.axon.metrics().render() + &standing.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
