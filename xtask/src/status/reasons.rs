//! Every reason that `status` gives. The codes are stable; what they say in words is not.

use deval_report::{Diagnostic, Severity};

use Severity::{Error, Note, Warning};

/// A reason: its code, how much it matters, the gate behind it, and what it means.
type Reason = (&'static str, Severity, &'static str, &'static str);

/// All of them, in the order of a validator's look.
const REASONS: [Reason; 32] = [
    ("chain.away", Error, "", "the chain could not be looked at"),
    ("hub.away", Error, "", "the Hub could not be looked at"),
    ("hotkey.unregistered", Error, "G01", "the hotkey has no slot in the subnet"),
    ("coldkey.differs", Error, "G30", "another coldkey owns the hotkey than the wallet's"),
    ("window.closed", Error, "G07", "registered too long ago, and not among the best by incentive"),
    ("window.chance", Warning, "G07", "registered too long ago, and the last place by incentive is shared"),
    ("window.ends", Warning, "G07", "the window of the registration ends within a week"),
    ("commitment.missing", Error, "G17", "nothing is committed on chain"),
    ("commitment.unreadable", Error, "G18", "validators cannot parse the commitment"),
    ("commitment.other-url", Warning, "G22", "the commitment names another repository than the manifest"),
    ("local.unknown", Warning, "", "no hash of the local model is known"),
    ("local.changed", Warning, "", "the local files changed after they were hashed"),
    ("local-chain.differs", Error, "G28", "the local model is not the committed one"),
    ("hub.missing", Error, "G10", "the repository is not there"),
    ("hub.private", Error, "G10", "the repository is not public"),
    ("hub.disabled", Error, "G10", "the Hub took the repository down"),
    ("hub.gated", Error, "G24", "readers of the repository have to ask"),
    ("hub.empty", Error, "G12", "no Hub commit stands on `main`"),
    ("local-hub.differs", Error, "G16", "the Hub holds other files than the staged ones"),
    ("hub-chain.differs", Error, "G28", "the weights on the Hub are not the committed ones"),
    ("hub-chain.unproven", Warning, "G28", "whether the weights on the Hub are the committed ones cannot be told"),
    ("hub.commit-in-round", Error, "G33", "the newest Hub commit is later than the start of the named round"),
    ("hub.commit-recent", Note, "G33", "a round that began before the newest Hub commit may still run"),
    ("duplicate.wins", Error, "G34", "another miner committed the same model hash earlier"),
    ("duplicate.loses", Note, "G34", "another miner committed the same model hash later"),
    ("axon.unannounced", Error, "G01", "the chain does not tell where the axon is"),
    ("axon.elsewhere", Warning, "G01", "the chain names another address than the manifest"),
    ("axon.private", Error, "G01", "the chain names an address that the Internet cannot reach"),
    ("axon.unreachable", Error, "G04", "the axon does not answer at the announced address"),
    ("axon.unproven", Warning, "G04", "the axon answers on this machine, but not at the announced address from here"),
    ("axon.refuses", Error, "G05", "the axon refuses a registered hotkey"),
    ("axon.other-model", Error, "G04", "the axon tells another repository than the manifest"),
];

/// A finding for a reason.
pub(super) fn reason(code: &str, message: impl Into<String>) -> Diagnostic {
    let (_, severity, ..) = REASONS.iter().find(|(known, ..)| *known == code).expect("every reason is listed");
    Diagnostic::new(*severity, code, message)
}

/// The list for `status --help`.
pub(crate) fn help() -> String {
    let lines = REASONS.iter().map(|(code, severity, gate, meaning)| {
        let gate = if gate.is_empty() { "   " } else { gate };
        format!("  {code:22} {severity:8} {gate} {meaning}\n", severity = severity.to_string())
    });
    format!("Reasons (stable codes; errors and warnings are to be acted on):\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::REASONS;

    #[test]
    fn codes_are_listed_once_and_gates_exist() {
        for (number, (code, _, gate, _)) in REASONS.iter().enumerate() {
            assert!(REASONS.iter().skip(number + 1).all(|(other, ..)| other != code), "{code} is listed twice");
            assert!(gate.is_empty() || deval_report::gates::gate(gate).is_some(), "{code}: {gate}");
        }
    }
}
