//! Connections: limited in number and in patience, and ended in order.
//!
//! The numbers are far above what validators need (one connection each, closed or idle after an answer of milliseconds), and
//! keep a stranger from holding the axon's memory or its connections for nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use super::Axon;
use crate::AxonError;

/// Connections at a time.
const CONNECTIONS: usize = 1024;
/// Connections at a time from one address.
pub(super) const CONNECTIONS_FROM_ONE: usize = 128;
/// How long a request's headers may take, and how long a connection may idle.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Headers of a request; a dendrite sends 20.
const HEADERS: usize = 64;
/// Bytes of a request's headers; a dendrite sends about 1200.
const HEADER_BYTES: usize = 16 * 1024;
/// How long requests under way may take when the axon stops.
const GRACE: Duration = Duration::from_secs(10);

/// Listens on an address.
///
/// # Errors
/// [`AxonError::Bind`], as when the port is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AxonError> {
    TcpListener::bind(address).await.map_err(|reason| AxonError::Bind { address, reason })
}

/// A listener that an axon answers on, until it is stopped or dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Listening {
    /// Answers every connection to `listener`. Needs a tokio runtime.
    pub fn start(listener: TcpListener, address: SocketAddr, axon: Axon) -> Self {
        let (stop, stopped) = watch::channel(false);
        let accepting =
            tokio::spawn(Connections { axon, stopped, tasks: JoinSet::new(), peers: HashMap::new() }.accept(listener));
        Self { address, stop, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further connection, closes idle ones, and ends when the requests under way are answered, or after ten seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // It does not panic: what panics does so in a connection's own task.
        let _ = self.accepting.await;
    }
}

struct Connections {
    axon: Axon,
    stopped: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    /// Whom each task serves.
    peers: HashMap<Id, IpAddr>,
}

impl Connections {
    async fn accept(mut self, listener: TcpListener) {
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                accepted = listener.accept(), if self.tasks.len() < CONNECTIONS => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    // Out of descriptors: those in use are given back with their connections.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                () = asked_to(&mut stopped) => break,
            }
        }
        drop(listener);
        let rest = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        };
        // What is left after that is ended with the set.
        let _ = tokio::time::timeout(GRACE, rest).await;
    }

    fn take(&mut self, stream: TcpStream, peer: SocketAddr) {
        let address = peer.ip().to_canonical();
        if self.peers.values().filter(|known| **known == address).count() >= CONNECTIONS_FROM_ONE {
            self.axon.metrics().turned_away();
            return;
        }
        let task = self.tasks.spawn(converse(self.axon.clone(), stream, peer, self.stopped.clone()));
        self.peers.insert(task.id(), address);
        self.axon.metrics().connected(self.tasks.len());
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.peers.remove(&id);
        self.axon.metrics().disconnected(self.tasks.len(), ended.is_err_and(|error| error.is_panic()));
    }
}

/// Completes when the listener is stopped, or its handle dropped.
async fn asked_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// All requests of one connection.
async fn converse(axon: Axon, stream: TcpStream, peer: SocketAddr, mut stopped: watch::Receiver<bool>) {
    // An answer is one packet; waiting for more would only delay it. Without the option it is merely slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let axon = axon.clone();
        async move { Ok::<_, Infallible>(axon.respond(peer, request.map(Body::new)).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_headers(HEADERS).max_buf_size(HEADER_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = asked_to(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if served.is_err() {
        axon.metrics().broken();
    }
}
