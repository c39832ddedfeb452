//! What the step `serve` leaves behind.

use std::net::SocketAddr;
use std::time::Duration;

use deval_report::gates::{GateStatus, GateVerdict};
use deval_report::{Diagnostic, Section};
use serde::{Deserialize, Serialize};

use crate::ModelQueryReply;

/// A validator's time limit for the question (upstream `deval/protocol.py`).
pub const VALIDATOR_TIMEOUT: Duration = Duration::from_secs(5);

/// What the axon says, and how it is announced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServeReceipt {
    /// False when this is only the plan.
    pub executed: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What the chain tells validators.
    pub announce: String,
    /// Where `/health` and `/metrics` are.
    #[serde(default)]
    pub monitor: Option<SocketAddr>,
    /// Whether the chain said so already; absent in a plan.
    pub announced_before: Option<bool>,
    /// What it tells.
    pub model_url: String,
    /// The answer to one question, asked as a validator asks it.
    pub answer: Option<Answer>,
    /// What that says of the gates.
    pub gates: Vec<GateVerdict>,
}

/// What a validator got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// Owner of the model repository.
    pub repo_id: String,
    /// Name of the model repository.
    pub model_id: String,
    /// The axon's status.
    pub status_code: i64,
    /// The axon's words for it.
    pub status_message: String,
}

/// What the axon answered when it was asked, and how it was announced.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Whether the chain said so already; absent while it is away.
    pub announced_before: Option<bool>,
    /// The answer.
    pub reply: ModelQueryReply,
}

impl Answered {
    /// A finding when the answer is not where the model is.
    pub fn wrong(&self, model_url: &str) -> Option<Diagnostic> {
        let told = self.reply.model_url();
        let finding = Diagnostic::error("G04", "the axon does not tell where the model is")
            .found(format!("{told}, status {} {}", self.reply.status_code, self.reply.status_message))
            .expected(model_url);
        (told != model_url).then_some(finding)
    }

    fn gates(&self, model_url: &str) -> Vec<GateVerdict> {
        let pass_if = |holds| if holds { GateStatus::Pass } else { GateStatus::Fail };
        let told = pass_if(self.reply.model_url() == model_url);
        let seen = format!("status {} for a registered hotkey", self.reply.status_code);
        let left = (VALIDATOR_TIMEOUT.as_secs_f64() - self.reply.seconds).max(0.0);
        let mut gates = vec![
            GateVerdict::new("G04", told, "answered a validator's question").margin(format!("{left:.1} s of 5 s left")),
            GateVerdict::new("G05", pass_if(self.reply.status_code == 200), seen),
        ];
        // Announced means registered: the chain takes no announcement of another hotkey.
        if self.announced_before.is_some() {
            gates.insert(0, GateVerdict::new("G01", GateStatus::Pass, "registered, and the axon is on chain"));
        }
        gates
    }
}

impl ServeReceipt {
    /// The plan, done.
    #[must_use]
    pub fn with_answer(self, answered: &Answered) -> Self {
        let gates = answered.gates(&self.model_url);
        let reply = answered.reply.clone();
        let answer = Answer {
            repo_id: reply.repo_id,
            model_id: reply.model_id,
            status_code: reply.status_code,
            status_message: reply.status_message,
        };
        Self { executed: true, announced_before: answered.announced_before, answer: Some(answer), gates, ..self }
    }

    /// For every view.
    pub fn sections(&self) -> Vec<Section> {
        let mut section = Section::new(if self.executed { "Axon" } else { "Plan of serve" })
            .row("listens on", self.listen)
            .row("announces", &self.announce)
            .row("tells", &self.model_url);
        if let Some(monitor) = self.monitor {
            section = section.row("health, metrics", format!("http://{monitor}/health, /metrics"));
        }
        if let Some(answer) = &self.answer {
            section = section.row("asked once", answer.summary());
        }
        if !self.executed {
            section = section.note("Nothing was changed. `--execute` announces on chain and serves until stopped.");
        }
        vec![section]
    }
}

impl Answer {
    /// One line.
    pub fn summary(&self) -> String {
        format!("{} {}: {}/{}", self.status_code, self.status_message, self.repo_id, self.model_id)
    }
}
