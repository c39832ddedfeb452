//! The way to the RPC server: it can be cut, as a network's can.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// When the connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum When {
    /// At once, after the answer.
    #[default]
    Now,
    /// At the next extrinsic, which is lost.
    BeforeSubmit,
    /// At the next extrinsic, which is in the pool, and nobody is told.
    AfterSubmit,
}

/// A cut: when, and for how long nobody gets in afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// When.
    pub(crate) when: When,
    /// How long new connections are closed at once.
    pub(crate) refuse: Duration,
}

/// Holds all connections.
#[derive(Debug)]
pub(crate) struct Gate {
    cuts: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed_until: Option<Instant>,
    at_submit: Option<Cut>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { cuts: watch::Sender::new(0), state: Mutex::default() }
    }
}

impl Gate {
    /// Closes every connection.
    pub(crate) fn cut(&self, refuse: Duration) {
        self.state().closed_until = Some(Instant::now() + refuse);
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Asks for a cut at the next extrinsic.
    pub(crate) fn cut_at_submit(&self, cut: Cut) {
        self.state().at_submit = Some(cut);
    }

    /// The cut that was asked for, once.
    pub(crate) fn take_cut(&self) -> Option<Cut> {
        self.state().at_submit.take()
    }

    /// Passes connections on to `server` until the future is dropped.
    pub(crate) async fn relay(&self, listener: TcpListener, server: SocketAddr) -> std::io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (client, _) = accepted?;
                    if !self.is_closed() {
                        connections.spawn(pass(client, server, self.cuts.subscribe()));
                    }
                }
                Some(_) = connections.join_next() => (),
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.state().closed_until.is_some_and(|until| Instant::now() < until)
    }

    /// The state stays whole when a holder panics: each change is one assignment.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; it ends with either side, or at a cut.
async fn pass(mut client: TcpStream, server: SocketAddr, mut cuts: watch::Receiver<u64>) {
    let both = async {
        let mut server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        // What went wrong on a connection is known to its ends.
        _ended = both => (),
        _cut = cuts.changed() => (),
    }
}
