//! Sign, submit, wait for finalisation, and say in a miner's words why the chain refused.

use std::time::Duration;

use subxt::config::{SubstrateConfig, SubstrateExtrinsicParamsBuilder};
use subxt::error::{
    BackendError, DispatchError, ExtrinsicError, RpcError, TransactionEventsError, TransactionProgressError,
};
use subxt::tx::Signer;

use super::calls::Call;
use super::{AtBlock, Client, within};
use crate::ChainError;

/// Block time is 12 s and finality trails by a few blocks; after that long something is wrong.
const FINALITY_TIMEOUT: Duration = Duration::from_secs(240);
/// A transaction that was not included within so many blocks can never be.
const MORTALITY_BLOCKS: u64 = 64;

/// A finalised extrinsic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Hash of the extrinsic, `0x…`.
    pub extrinsic_hash: String,
    /// Hash of its block, `0x…`.
    pub block_hash: String,
    /// Number of its block.
    pub block_number: u64,
}

impl Client {
    /// Sends a call and waits until it is finalised and known to have succeeded.
    pub(super) async fn submit(
        &self,
        call: &Call,
        signer: &impl Signer<SubstrateConfig>,
    ) -> Result<(Submitted, AtBlock), ChainError> {
        let doing = format!("waiting for {} to be finalised", name(call));
        within(FINALITY_TIMEOUT, &self.endpoint, &doing, self.submit_unbounded(call, signer)).await
    }

    async fn submit_unbounded(
        &self,
        call: &Call,
        signer: &impl Signer<SubstrateConfig>,
    ) -> Result<(Submitted, AtBlock), ChainError> {
        let params = SubstrateExtrinsicParamsBuilder::new().mortal(MORTALITY_BLOCKS).build();
        let mut transactions = self.at().await?.transactions();
        let progress = transactions.sign_and_submit_then_watch(call, signer, params).await;
        let progress = progress.map_err(|e| self.not_accepted(call, e))?;
        let block = progress.wait_for_finalized().await.map_err(|e| self.not_finalised(call, e))?;
        block.wait_for_success().await.map_err(|e| self.failed(call, e))?;
        let at = block.at().await.map_err(|e| self.rpc(format!("reading the block of {}", name(call)), e))?;
        let submitted = Submitted {
            extrinsic_hash: format!("{:#x}", block.extrinsic_hash()),
            block_hash: format!("{:#x}", block.block_hash()),
            block_number: at.block_number(),
        };
        Ok((submitted, at))
    }

    fn not_accepted(&self, call: &Call, error: ExtrinsicError) -> ChainError {
        if let ExtrinsicError::ErrorSubmittingTransaction(BackendError::Rpc(RpcError::ClientError(
            subxt::rpcs::Error::User(pool),
        ))) = &error
        {
            let data = pool.data.as_ref().map(|data| data.get().trim_matches('"').to_owned());
            return refused(call, pool_error(pool.code, &pool.message, data.as_deref()));
        }
        self.rpc(format!("submitting {}", name(call)), error)
    }

    fn not_finalised(&self, call: &Call, error: TransactionProgressError) -> ChainError {
        match error {
            TransactionProgressError::TransactionStatusError(status) => refused(call, status.to_string()),
            other => self.rpc(format!("waiting for {}", name(call)), other),
        }
    }

    fn failed(&self, call: &Call, error: TransactionEventsError) -> ChainError {
        match error {
            TransactionEventsError::ExtrinsicFailed(DispatchError::Module(module)) => {
                refused(call, module.details_string().replace("::", "."))
            }
            TransactionEventsError::ExtrinsicFailed(other) => refused(call, other.to_string()),
            other => self.rpc(format!("reading the result of {}", name(call)), other),
        }
    }
}

/// `Pallet.call`.
pub(super) fn name(call: &Call) -> String {
    format!("{}.{}", call.pallet_name(), call.call_name())
}

pub(super) fn refused(call: &Call, error: String) -> ChainError {
    let remedy = remedy(&error).to_owned();
    ChainError::Refused { call: name(call), error, remedy }
}

/// The pool's words, with subtensor's own numbers named (`CustomTransactionError`).
pub(super) fn pool_error(code: i32, message: &str, data: Option<&str>) -> String {
    let data = data.unwrap_or_default();
    let custom = data.rsplit_once("Custom error: ").and_then(|(_, number)| match number.trim().parse().ok()? {
        0 => Some("ColdkeyInSwapSchedule"),
        2 => Some("BalanceTooLow"),
        3 => Some("SubnetNotExists"),
        4 => Some("HotkeyAccountDoesntExist"),
        6 => Some("RateLimitExceeded"),
        10 => Some("HotKeyNotRegisteredInNetwork"),
        11 => Some("InvalidIpAddress"),
        12 => Some("ServingRateLimitExceeded"),
        13 => Some("InvalidPort"),
        _ => None,
    });
    match custom {
        Some(custom) => format!("{custom} ({code}: {message}: {data})"),
        None if data.is_empty() => format!("{message} ({code})"),
        None => format!("{message}: {data} ({code})"),
    }
}

/// What to do about an error, found by the name it has in every runtime (its number moves).
pub(super) fn remedy(error: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 17] = [
        ("AccountNotAllowedCommit", "the hotkey is not registered on this subnet: register it first"),
        ("HotKeyNotRegisteredInNetwork", "the hotkey is not registered on this subnet: register it first"),
        ("SpaceLimitExceeded", "the hotkey's space for this epoch is used up: wait for the subnet's next epoch"),
        ("CommitmentSetRateLimitExceeded", "this runtime takes one commitment per 100 blocks: wait 20 minutes"),
        ("InvalidIpAddress", "announce an address validators can reach from outside"),
        ("ServingRateLimitExceeded", "the axon was announced a moment ago: wait 50 blocks (10 minutes)"),
        ("InvalidPort", "announce a port other than 0"),
        ("HotKeyAlreadyRegisteredInSubNet", "nothing to do: the hotkey is registered"),
        ("NotEnoughBalanceToStake", "the coldkey cannot pay the burn: send it TAO"),
        ("BalanceTooLow", "the coldkey cannot pay: send it TAO"),
        ("SubNetRegistrationDisabled", "the subnet takes no registrations now"),
        ("TooManyRegistrations", "the subnet is full for now: try again in the next interval"),
        ("NonAssociatedColdKey", "the hotkey belongs to another coldkey: register it with that one"),
        ("SubnetNotExists", "there is no such subnet on this chain: check network and netuid"),
        ("Inability to pay", "the signer cannot pay the fee: send its coldkey TAO"),
        ("outdated", "another transaction of this key was faster: run the step again"),
        ("Priority is too low", "another transaction of this key is still pending: wait for it and run the step again"),
    ];
    let known = REMEDIES.iter().find(|(name, _)| error.contains(name));
    known.map_or("nothing was changed on chain", |(_, remedy)| remedy)
}
