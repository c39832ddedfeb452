//! The second port: how the axon stands, for probes (`/health`) and for Prometheus (`/metrics`).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use crate::{Axon, Subnet};

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
