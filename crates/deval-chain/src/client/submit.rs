//! Sign, submit, wait for finalisation; and find out what became of an extrinsic when the connection broke.
//!
//! No second extrinsic is sent while the first could be in a block. What is wanted and the nonce are read at the same finalised
//! block, and the nonce is never raised above it: two extrinsics with one nonce cannot both be in.

use std::time::Instant;

use subxt::config::{HashFor, SubstrateConfig, SubstrateExtrinsicParamsBuilder};
use subxt::error::{BackendError, DispatchError, ExtrinsicError, RpcError, TransactionEventsError};
use subxt::extrinsics::ExtrinsicEvents;
use subxt::rpcs::UserError;
use subxt::tx::Signer;

use super::calls::Call;
use super::refusal::{ALREADY_IMPORTED, is_overtaken, is_unsigned, pool_error, refused};
use super::{AtBlock, Client, within};
use crate::ChainError;

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

/// What one effect came to.
pub(super) enum Once<T> {
    /// The chain holds what was wanted; nothing was sent.
    There(T),
    /// Sent, finalised in this block and successful there.
    Sent(Submitted, AtBlock),
}

/// An extrinsic on its way.
struct Sent<'a> {
    call: &'a Call,
    hash: HashFor<SubstrateConfig>,
    /// The block it was signed at.
    since: u64,
    /// Its sender and its nonce.
    account: subxt::utils::AccountId32,
    nonce: u64,
}

impl Client {
    /// Sends a call once, unless `found` sees on the chain what it is for. Waits until it is finalised and known to have succeeded.
    /// While another extrinsic of the same key is on its way, or an upgrade of the runtime is not finalised yet, that is waited for, and
    /// the chain is looked at again.
    pub(super) async fn once<T, F>(
        &self,
        call: &Call,
        signer: &impl Signer<SubstrateConfig>,
        found: impl Fn(AtBlock) -> F,
    ) -> Result<Once<T>, ChainError>
    where
        F: Future<Output = Result<Option<T>, ChainError>>,
    {
        let started = Instant::now();
        loop {
            self.require_same_chain().await?;
            let at = self.at().await?;
            if let Some(there) = found(at.clone()).await? {
                return Ok(Once::There(there));
            }
            match self.attempt(call, signer, &at).await? {
                Ok((submitted, at)) => return Ok(Once::Sent(submitted, at)),
                Err(overtaken) if started.elapsed() > self.limits.finality => return Err(overtaken),
                Err(_) => tokio::time::sleep(self.limits.pause).await,
            }
        }
    }

    /// The inner error is the pool's, when something else came first and this extrinsic was not taken.
    async fn attempt(
        &self,
        call: &Call,
        signer: &impl Signer<SubstrateConfig>,
        at: &AtBlock,
    ) -> Result<Result<(Submitted, AtBlock), ChainError>, ChainError> {
        let doing = format!("signing {}", name(call));
        let mut transactions = at.transactions();
        let signing = async {
            let nonce = transactions.account_nonce(&signer.account_id()).await?;
            let params = SubstrateExtrinsicParamsBuilder::new().mortal(MORTALITY_BLOCKS).nonce(nonce).build();
            Ok((transactions.create_signed(call, signer, params).await?, nonce))
        };
        let signing = async { signing.await.map_err(|e: ExtrinsicError| self.rpc(&*doing, e)) };
        let (signed, nonce) = within(self.limits.read, &self.endpoint, &doing, signing).await?;
        let sent = Sent { call, hash: signed.hash(), since: at.block_number(), account: signer.account_id(), nonce };
        let watching = async {
            match signed.submit_and_watch().await {
                Ok(progress) => match progress.wait_for_finalized().await {
                    Ok(block) => {
                        let failed = |e| self.rpc(format!("reading the block of {}", name(call)), e);
                        let (events, at) = (block.wait_for_success().await, block.at().await.map_err(failed)?);
                        events.map_err(|e| self.failed(call, e))?;
                        Ok(Ok((sent.submitted(&at), at)))
                    }
                    // Whatever ended the watch, only the chain knows whether it is in.
                    Err(error) => self.look_for(&sent, &error.to_string()).await.map(Ok),
                },
                Err(error) => match refusal(&error) {
                    Some(pool) if pool.code != ALREADY_IMPORTED => {
                        let data = pool.data.as_ref().map(|data| data.get().trim_matches('"').to_owned());
                        let error = refused(&name(call), pool_error(pool.code, &pool.message, data.as_deref()));
                        let again = is_overtaken(&error) || (is_unsigned(&error) && self.was_upgraded(at).await?);
                        if again { Ok(Err(error)) } else { Err(error) }
                    }
                    _ => self.look_for(&sent, &error.to_string()).await.map(Ok),
                },
            }
        };
        let unsure = |_| Err(self.unsure(&sent, "it was not finalised in time"));
        tokio::time::timeout(self.limits.finality, watching).await.unwrap_or_else(unsure)
    }

    /// Whether the newest block, by which the pool judges, has another runtime than a finalised one.
    async fn was_upgraded(&self, at: &AtBlock) -> Result<bool, ChainError> {
        let doing = "reading the newest runtime's version";
        let reading = async {
            let version = self.methods.state_get_runtime_version(None).await;
            version.map(|version| version.spec_version).map_err(|e| self.rpc(doing, e))
        };
        Ok(within(self.limits.read, &self.endpoint, doing, reading).await? != at.spec_version())
    }

    /// Looks through the finalised blocks for an extrinsic that was handed over, until it is found or can no longer come.
    async fn look_for(&self, sent: &Sent<'_>, why: &str) -> Result<(Submitted, AtBlock), ChainError> {
        let mut next = sent.since + 1;
        loop {
            // The connection may still be down; the caller's limit ends the patience.
            if let Ok(found) = self.look_from(sent, &mut next).await {
                match found {
                    Some(Ok(found)) => return Ok(found),
                    Some(Err(refusal)) => return Err(refusal),
                    None if next > sent.last_block() => {
                        let error = format!("not included by block {}: {why}", sent.last_block());
                        return Err(refused(&name(sent.call), error));
                    }
                    None => {}
                }
            }
            tokio::time::sleep(self.limits.pause).await;
        }
    }

    /// One look at the blocks that were finalised since; `next` is moved past them.
    async fn look_from(
        &self,
        sent: &Sent<'_>,
        next: &mut u64,
    ) -> Result<Option<Result<(Submitted, AtBlock), ChainError>>, ChainError> {
        let head = self.at().await?;
        let doing = format!("looking for {}", name(sent.call));
        let failed = |e: &dyn ToString| self.rpc(&*doing, e.to_string());
        while *next <= head.block_number().min(sent.last_block()) {
            let at = self.api.at_block(*next).await.map_err(|e| failed(&e))?;
            let extrinsics = at.extrinsics().fetch().await.map_err(|e| failed(&e))?;
            for extrinsic in extrinsics.iter() {
                let extrinsic = extrinsic.map_err(|e| failed(&e))?;
                if extrinsic.hash() == sent.hash {
                    let events = extrinsic.events().await.map_err(|e| failed(&e))?;
                    let outcome = self.succeeded(sent.call, &events, &at);
                    return Ok(Some(outcome.map(|()| (sent.submitted(&at), at.clone()))));
                }
            }
            *next += 1;
        }
        let nonce = head.transactions().account_nonce(&sent.account).await.map_err(|e| failed(&e))?;
        let other = (nonce > sent.nonce).then(|| "Usurped: another extrinsic of this key took its nonce".to_owned());
        Ok(other.map(|other| Err(refused(&name(sent.call), other))))
    }

    fn succeeded(
        &self,
        call: &Call,
        events: &ExtrinsicEvents<SubstrateConfig>,
        at: &AtBlock,
    ) -> Result<(), ChainError> {
        let doing = || format!("reading the result of {}", name(call));
        for event in events.iter() {
            let event = event.map_err(|e| self.rpc(doing(), e))?;
            if event.pallet_name() == "System" && event.event_name() == "ExtrinsicFailed" {
                let error = DispatchError::decode_from(event.field_bytes(), at.metadata());
                return Err(dispatch_error(call, error.map_err(|e| self.rpc(doing(), e))?));
            }
        }
        Ok(())
    }

    fn unsure(&self, sent: &Sent<'_>, why: &str) -> ChainError {
        ChainError::Unsure {
            endpoint: self.endpoint.clone(),
            call: name(sent.call),
            extrinsic: format!("{:#x}", sent.hash),
            last_block: sent.last_block(),
            reason: why.to_owned(),
        }
    }

    fn failed(&self, call: &Call, error: TransactionEventsError) -> ChainError {
        match error {
            TransactionEventsError::ExtrinsicFailed(error) => dispatch_error(call, error),
            other => self.rpc(format!("reading the result of {}", name(call)), other),
        }
    }
}

impl Sent<'_> {
    /// The last block that may hold it.
    fn last_block(&self) -> u64 {
        self.since + MORTALITY_BLOCKS
    }

    fn submitted(&self, at: &AtBlock) -> Submitted {
        Submitted {
            extrinsic_hash: format!("{:#x}", self.hash),
            block_hash: format!("{:#x}", at.block_hash()),
            block_number: at.block_number(),
        }
    }
}

/// A module's error by its name in the chain's metadata, `Pallet.Error`.
fn dispatch_error(call: &Call, error: DispatchError) -> ChainError {
    match error {
        DispatchError::Module(module) => refused(&name(call), module.details_string().replace("::", ".")),
        other => refused(&name(call), other.to_string()),
    }
}

/// The node's answer, when it did answer.
fn refusal(error: &ExtrinsicError) -> Option<&UserError> {
    match error {
        ExtrinsicError::ErrorSubmittingTransaction(BackendError::Rpc(RpcError::ClientError(
            subxt::rpcs::Error::User(pool),
        ))) => Some(pool),
        _ => None,
    }
}

/// `Pallet.call`.
pub(super) fn name(call: &Call) -> String {
    format!("{}.{}", call.pallet_name(), call.call_name())
}
