//! Why the chain refused, in a miner's words, and what to do. Errors are known by the names they have in every runtime: their numbers
//! move.

use crate::ChainError;

/// The pool's code for an extrinsic it holds already.
pub(super) const ALREADY_IMPORTED: i32 = 1013;

pub(super) fn refused(call: &str, error: String) -> ChainError {
    let remedy = remedy(&error).to_owned();
    ChainError::Refused { call: call.to_owned(), error, remedy }
}

/// Whether another extrinsic of the same key came first, and this one was not taken.
pub(super) fn is_overtaken(error: &ChainError) -> bool {
    let ChainError::Refused { error, .. } = error else { return false };
    ["Transaction is outdated", "Priority is too low"].iter().any(|words| error.contains(words))
}

/// Whether the pool took the signature for another's: it is, or was made for another version of the runtime.
pub(super) fn is_unsigned(error: &ChainError) -> bool {
    matches!(error, ChainError::Refused { error, .. } if error.contains("bad signature"))
}

/// The pool's words, with subtensor's own numbers named.
pub(super) fn pool_error(code: i32, message: &str, data: Option<&str>) -> String {
    let data = data.unwrap_or_default();
    let custom = data.rsplit_once("Custom error: ").and_then(|(_, number)| custom_error(number.trim().parse().ok()?));
    match custom {
        Some(custom) => format!("{custom} ({code}: {message}: {data})"),
        None if data.is_empty() => format!("{message} ({code})"),
        None => format!("{message}: {data} ({code})"),
    }
}

/// subtensor's `CustomTransactionError`, which metadata does not name.
fn custom_error(number: u8) -> Option<&'static str> {
    const NAMES: [&str; 23] = [
        "ColdkeyInSwapSchedule",
        "StakeAmountTooLow",
        "BalanceTooLow",
        "SubnetNotExists",
        "HotkeyAccountDoesntExist",
        "NotEnoughStakeToWithdraw",
        "RateLimitExceeded",
        "InsufficientLiquidity",
        "SlippageTooHigh",
        "TransferDisallowed",
        "HotKeyNotRegisteredInNetwork",
        "InvalidIpAddress",
        "ServingRateLimitExceeded",
        "InvalidPort",
        "ZeroMaxAmount",
        "InvalidRevealRound",
        "CommitNotFound",
        "CommitBlockNotInRevealRange",
        "InputLengthsUnequal",
        "UidNotFound",
        "EvmKeyAssociateRateLimitExceeded",
        "ColdkeySwapDisputed",
        "InvalidRealAccount",
    ];
    if number == u8::MAX { Some("BadRequest") } else { NAMES.get(usize::from(number)).copied() }
}

const REGISTER: &str = "the hotkey is not registered on this subnet: register it first (`cargo xtask register`)";
const FUND: &str = "the coldkey cannot pay: send it TAO";
const SWAP: &str = "the coldkey is being swapped: wait for the end of the swap, or use the new coldkey";
const AGAIN: &str = "another transaction of this key was faster: run the step again, it looks at the chain first";

/// What to do, by a part of the error's name or words.
const REMEDIES: [(&str, &str); 37] = [
    ("AccountNotAllowedCommit", REGISTER),
    ("HotKeyNotRegisteredInNetwork", REGISTER),
    ("HotKeyNotRegisteredInSubNet", REGISTER),
    ("HotkeyAccountDoesntExist", REGISTER),
    ("HotKeyAccountNotExists", REGISTER),
    ("UidNotFound", REGISTER),
    ("SpaceLimitExceeded", "the hotkey's space for this epoch is used up: wait for the subnet's next epoch"),
    ("CommitmentSetRateLimitExceeded", "this runtime takes one commitment, then none for some blocks: wait for them"),
    ("TooManyFieldsInCommitmentInfo", "this runtime takes fewer fields than one: update the workbench"),
    ("TimelockRevealFailedNotAllowed", "commit a plain field: `cargo xtask commit` does"),
    ("InvalidIpAddress", "announce an address validators can reach from outside"),
    ("InvalidIpType", "announce an IPv4 or IPv6 address"),
    (
        "ServingRateLimitExceeded",
        "the axon was announced a moment ago: wait for the subnet's limit between announcements",
    ),
    ("InvalidPort", "announce a port other than 0"),
    ("HotKeyAlreadyRegisteredInSubNet", "nothing to do: the hotkey is registered"),
    ("NotEnoughBalanceToStake", "the coldkey cannot pay the burn: send it TAO"),
    ("NotEnoughBalance", FUND),
    ("BalanceTooLow", FUND),
    ("Inability to pay", "the signer cannot pay the fee: send its coldkey TAO"),
    ("FundsUnavailable", FUND),
    ("SubNetRegistrationDisabled", "the subnet takes no registrations now: ask its owner, or wait"),
    ("SubtokenDisabled", "the subnet has not been started yet: wait for its owner"),
    ("TooManyRegistrations", "the subnet took as many as it takes for now: try again in the next block or interval"),
    ("NoNeuronIdAvailable", "all seats are taken and none may be pruned: try again when a neuron's immunity has ended"),
    ("AllNeuronsImmune", "all seats are taken and none may be pruned: try again when a neuron's immunity has ended"),
    (
        "RegistrationPriceLimitExceeded",
        "the cost rose above the limit: look at the plan again, and raise the limit if you want it",
    ),
    ("SlippageTooHigh", "the price moved above the limit: look at the plan again"),
    (
        "NonAssociatedColdKey",
        "the hotkey belongs to another coldkey: register it with that one, or take another hotkey",
    ),
    ("SubnetNotExists", "there is no such subnet on this chain: check network and netuid"),
    ("ColdkeyInSwapSchedule", SWAP),
    ("ColdkeySwapDisputed", SWAP),
    ("RateLimitExceeded", "too many calls of this kind: wait some blocks and run the step again"),
    ("outdated", AGAIN),
    ("Priority is too low", AGAIN),
    ("Usurped", AGAIN),
    ("bad signature", "the runtime was upgraded just now, or this is another chain: run the step again in a minute"),
    ("ancient birth block", "the transaction came too late: run the step again"),
];

/// What to do about an error.
pub(super) fn remedy(error: &str) -> &'static str {
    let known = REMEDIES.iter().find(|(name, _)| error.contains(name));
    known.map_or("nothing was changed on chain; run the step again, it looks at the chain first", |(_, remedy)| remedy)
}
