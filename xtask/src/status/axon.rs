//! The question at the announced address, as a validator asks it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use deval_axon::{AxonError, VALIDATOR_TIMEOUT, external, query};
use deval_chain::KeyPair;
use serde::Serialize;

/// For the second question, to this machine itself.
const LOCAL_PATIENCE: Duration = Duration::from_secs(2);

/// What became of the question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Probe {
    /// Whether the announced address is one of this machine's own: the question then never left it.
    pub(crate) own_address: bool,
    pub(crate) outcome: Outcome,
    /// Whether the axon answers where this machine listens; asked only when it does not answer where it is announced.
    pub(crate) answers_locally: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It told a repository.
    Told {
        /// `namespace/name`.
        model_url: String,
        seconds: f64,
    },
    /// It answered with another status than 200.
    Refused { status: i64, message: String },
    /// Nothing that is an axon answered.
    Silent { reason: String },
}

/// Asks the axon of `key` at its announced address, with a question signed by its own hotkey, which is as good as any registered one.
pub(super) async fn probe(announced: SocketAddr, listen: SocketAddr, key: &KeyPair) -> Probe {
    let outcome = ask(announced, key, VALIDATOR_TIMEOUT).await;
    let mut answers_locally = None;
    if matches!(outcome, Outcome::Silent { .. }) {
        let itself = SocketAddr::new(reachable(listen.ip()), listen.port());
        answers_locally = Some(matches!(ask(itself, key, LOCAL_PATIENCE).await, Outcome::Told { .. }));
    }
    Probe { own_address: external::is_own(announced.ip()), outcome, answers_locally }
}

async fn ask(address: SocketAddr, key: &KeyPair, patience: Duration) -> Outcome {
    match query(address, &key.ss58(), key, patience).await {
        Ok(reply) if reply.status_code == 200 => Outcome::Told { model_url: reply.model_url(), seconds: reply.seconds },
        Ok(reply) => Outcome::Refused { status: reply.status_code, message: reply.status_message },
        Err(AxonError::Unreachable { reason, .. }) => Outcome::Silent { reason },
        Err(AxonError::Timeout { seconds, .. }) => Outcome::Silent { reason: format!("no answer within {seconds} s") },
        Err(error) => Outcome::Silent { reason: error.to_string() },
    }
}

/// Where this machine reaches what listens there.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip }
}
