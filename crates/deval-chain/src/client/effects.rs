//! What changes the chain. Every effect reads first, does nothing when the chain already holds the wanted state, waits for
//! finalisation, and reads back.

use std::net::{IpAddr, Ipv4Addr};

use subxt::config::SubstrateExtrinsicParamsBuilder;
use subxt::ext::scale_decode::DecodeAsType;
use subxt::utils::{AccountId32, MultiSignature};
use subxt_signer::sr25519::dev;

use super::calls::{self, AXON_PROTOCOL, BITTENSOR_VERSION, Call};
use super::refusal::{pool_error, refused};
use super::submit::{Once, name};
use super::subnet::block_milliseconds;
use super::{AtBlock, AxonInfo, Client, Submitted, SubnetParameters, within};
use crate::{ChainError, CommitmentPayload, KeyPair, Wallet, parse_ss58};

/// What became of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The chain held the same commitment already, in these or other bytes: nothing was sent, and it kept its block.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The block the commitment counts from.
    pub block_number: u64,
    /// The bytes read back from the chain.
    pub read_back: Vec<u8>,
}

/// What became of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOutcome {
    /// The chain held the same entry already: nothing was sent.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The entry the chain holds.
    pub axon: AxonInfo,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterOutcome {
    /// The hotkey was registered already: nothing was sent.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The hotkey's uid.
    pub uid: u16,
}

/// What a registration would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationPlan {
    /// The uid, when the hotkey is registered already.
    pub uid: Option<u16>,
    /// The call that the runtime has for it, `Pallet.call`.
    pub call: String,
    /// Whether the call itself carries the limit; else the cost is only read right before it is sent.
    pub limit_on_chain: bool,
    /// The subnet; its `burn` is what it costs now.
    pub subnet: SubnetParameters,
    /// The fee beside it, in rao; absent when the runtime does not tell.
    pub fee: Option<u64>,
    /// The coldkey's free balance, in rao.
    pub balance: u64,
    /// Another coldkey that owns the hotkey already, as SS58.
    pub other_owner: Option<String>,
}

impl Client {
    /// Commits the payload with the wallet's hotkey. Committing again would move the commitment to a later block, which loses
    /// against an equal model of another miner, so one that a validator reads the same is left alone.
    ///
    /// # Errors
    /// [`ChainError::Refused`] (`AccountNotAllowedCommit` without a transaction when the hotkey is not registered),
    /// [`ChainError::ReadBack`], [`ChainError::Unsure`], [`ChainError::WrongChain`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn commit(
        &self,
        netuid: u16,
        wallet: &Wallet,
        payload: &CommitmentPayload,
    ) -> Result<CommitOutcome, ChainError> {
        let (hotkey, wanted) = (wallet.hotkey(), payload.as_bytes());
        let call = &calls::set_commitment(netuid, wanted);
        let there = |at: AtBlock| async move {
            let found = self.commitment_at(&at, netuid, hotkey.public()).await?;
            if found.as_ref().is_some_and(|found| payload.is_said_by(&found.payload)) {
                return Ok(found);
            }
            self.require_registered(&at, netuid, hotkey, call, "Commitments.AccountNotAllowedCommit")
                .await
                .map(|()| None)
        };
        let (submitted, at) = match self.once(call, hotkey, there).await {
            Ok(Once::There(found)) => {
                let (block_number, read_back) = (found.block.into(), found.payload);
                return Ok(CommitOutcome { already_there: true, submitted: None, block_number, read_back });
            }
            Ok(Once::Sent(submitted, at)) => (submitted, at),
            Err(error) => return Err(self.with_wait(error, netuid, hotkey).await),
        };
        let found = self.commitment_at(&at, netuid, hotkey.public()).await?;
        match found {
            Some(found) if found.payload == wanted => Ok(CommitOutcome {
                already_there: false,
                block_number: found.block.into(),
                read_back: found.payload,
                submitted: Some(submitted),
            }),
            found => Err(ChainError::ReadBack {
                call: name(call),
                block: submitted.block_number,
                expected: payload.as_str().to_owned(),
                found: found.map_or("nothing".to_owned(), |f| String::from_utf8_lossy(&f.payload).into_owned()),
            }),
        }
    }

    /// What committing the payload would cost the hotkey, in rao; nothing when the runtime does not tell.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn commitment_fee(
        &self,
        netuid: u16,
        hotkey: &str,
        payload: &CommitmentPayload,
    ) -> Result<Option<u64>, ChainError> {
        let call = calls::set_commitment(netuid, payload.as_bytes());
        self.fee(&self.at().await?, &call, parse_ss58(hotkey)?).await
    }

    /// Announces the axon, unless the chain's entry says the same already.
    ///
    /// # Errors
    /// [`ChainError::Refused`]; addresses and ports the chain or its validators would not take are refused before anything is
    /// sent. [`ChainError::ReadBack`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn serve_axon(
        &self,
        netuid: u16,
        wallet: &Wallet,
        ip: IpAddr,
        port: u16,
    ) -> Result<ServeOutcome, ChainError> {
        let (call, hotkey) = (calls::serve_axon(netuid, ip, port), wallet.hotkey());
        if let Some(number) = unservable(ip, port) {
            let error = pool_error(1010, "Invalid Transaction", Some(&format!("Custom error: {number}")));
            return Err(refused(&name(&call), error));
        }
        let wanted = |axon: &AxonInfo| {
            let same_place = axon.ip == ip && axon.port == port;
            same_place && axon.version == BITTENSOR_VERSION && axon.protocol == AXON_PROTOCOL
        };
        let account = hotkey.public();
        let there = |at: AtBlock| async move { Ok(self.axon_at(&at, netuid, account).await?.filter(wanted)) };
        let (submitted, at) = match self.once(&call, hotkey, there).await {
            Ok(Once::There(axon)) => return Ok(ServeOutcome { already_there: true, submitted: None, axon }),
            Ok(Once::Sent(submitted, at)) => (submitted, at),
            Err(error) => return Err(self.with_wait(error, netuid, hotkey).await),
        };
        match self.axon_at(&at, netuid, hotkey.public()).await? {
            Some(axon) if wanted(&axon) => Ok(ServeOutcome { already_there: false, submitted: Some(submitted), axon }),
            found => Err(ChainError::ReadBack {
                call: name(&call),
                block: submitted.block_number,
                expected: format!("{ip}:{port}"),
                found: found.map_or("nothing".to_owned(), |axon| format!("{}:{}", axon.ip, axon.port)),
            }),
        }
    }

    /// What registering a hotkey (SS58) would take now, for a coldkey (SS58) whose secret is not needed for this.
    ///
    /// # Errors
    /// [`ChainError::Address`], [`ChainError::Rpc`], [`ChainError::Timeout`]; [`ChainError::Refused`] when the chain has no such subnet.
    pub async fn registration_plan(
        &self,
        netuid: u16,
        coldkey: &str,
        hotkey: &str,
    ) -> Result<RegistrationPlan, ChainError> {
        let (signer, account) = (parse_ss58(coldkey)?, parse_ss58(hotkey)?);
        let Some(subnet) = self.subnet(netuid).await? else {
            return Err(refused("SubtensorModule.burned_register", "SubtensorModule.SubnetNotExists".to_owned()));
        };
        let at = self.at().await?;
        let (call, limit_on_chain) = registration(&at, netuid, &account, subnet.burn);
        let owner = self.owner_at(&at, account).await?;
        Ok(RegistrationPlan {
            uid: self.uid(netuid, hotkey).await?,
            call: name(&call),
            limit_on_chain,
            fee: self.fee(&at, &call, signer).await?,
            balance: self.balance(coldkey).await?,
            other_owner: owner.filter(|owner| owner != coldkey),
            subnet,
        })
    }

    /// Registers a hotkey (SS58); the coldkey signs and pays. Nothing is sent when it costs more than `limit` (rao) by now: where the
    /// runtime has `register_limit` it holds the limit too, else the cost is read right before.
    ///
    /// # Errors
    /// [`ChainError::Address`], [`ChainError::Refused`], [`ChainError::ReadBack`], [`ChainError::Unsure`], [`ChainError::Rpc`],
    /// [`ChainError::Timeout`].
    pub async fn register(
        &self,
        netuid: u16,
        coldkey: &KeyPair,
        hotkey: &str,
        limit: u64,
    ) -> Result<RegisterOutcome, ChainError> {
        let account = parse_ss58(hotkey)?;
        let (call, _) = &registration(&self.at().await?, netuid, &account, limit);
        let there = |at: AtBlock| async move {
            let uid: Option<u16> = self.fetch(&at, "SubtensorModule", "Uids", (netuid, account)).await?;
            let burn: u64 = self.of_subnet(&at, "Burn", netuid).await?;
            if uid.is_none() && burn > limit {
                let error = format!("RegistrationPriceLimitExceeded: it costs {burn} rao and the limit is {limit}");
                return Err(refused(&name(call), error));
            }
            Ok(uid)
        };
        let (submitted, at) = match self.once(call, coldkey, there).await? {
            Once::There(uid) => return Ok(RegisterOutcome { already_there: true, submitted: None, uid }),
            Once::Sent(submitted, at) => (submitted, at),
        };
        match self.fetch(&at, "SubtensorModule", "Uids", (netuid, account)).await? {
            Some(uid) => Ok(RegisterOutcome { already_there: false, submitted: Some(submitted), uid }),
            None => Err(ChainError::ReadBack {
                call: name(call),
                block: submitted.block_number,
                expected: format!("a uid for {hotkey}"),
                found: "none".to_owned(),
            }),
        }
    }

    /// Registers a hotkey at any price, on the local chain, where nothing is real.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`] anywhere else; else as [`Client::register`].
    pub async fn burned_register(
        &self,
        netuid: u16,
        coldkey: &KeyPair,
        hotkey: &str,
    ) -> Result<RegisterOutcome, ChainError> {
        self.require_local().await?;
        self.register(netuid, coldkey, hotkey, u64::MAX).await
    }

    /// Sends `rao` from the development account Alice, on the local chain only.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`] anywhere else; else as [`Client::burned_register`].
    pub async fn fund_from_alice(&self, destination: &str, rao: u64) -> Result<Submitted, ChainError> {
        self.require_local().await?;
        let call = calls::transfer(&parse_ss58(destination)?, rao);
        let never = |_: AtBlock| std::future::ready(Ok(None::<Submitted>));
        match self.once(&call, &dev::alice(), never).await? {
            Once::There(submitted) | Once::Sent(submitted, _) => Ok(submitted),
        }
    }

    /// The chain itself would only say so inside a block.
    async fn require_registered(
        &self,
        at: &AtBlock,
        netuid: u16,
        hotkey: &KeyPair,
        call: &Call,
        error: &str,
    ) -> Result<(), ChainError> {
        let uid: Option<u16> = self.fetch(at, "SubtensorModule", "Uids", (netuid, hotkey.public())).await?;
        uid.map(|_| ()).ok_or_else(|| refused(&name(call), error.to_owned()))
    }

    /// What a call would cost the signer beside what it burns, in rao; nothing when the runtime does not tell.
    async fn fee(&self, at: &AtBlock, call: &Call, signer: [u8; 32]) -> Result<Option<u64>, ChainError> {
        let doing = format!("estimating the fee of {}", name(call));
        let interface = at.metadata_ref().runtime_api_trait_by_name("TransactionPaymentApi");
        let Some(method) = interface.and_then(|interface| interface.method_by_name("query_info")) else {
            return Ok(None);
        };
        let failed = |e: &dyn ToString| self.rpc(&*doing, e.to_string());
        let account = AccountId32(signer);
        let estimating = async {
            let params = SubstrateExtrinsicParamsBuilder::new().build();
            let signable = at.transactions().create_signable(call, &account, params).await;
            // The fee depends on length and weight, not on who signed.
            let signature = MultiSignature::Sr25519([0; 64]);
            let signed =
                signable.and_then(|mut signable| signable.sign_with_account_and_signature(&account, &signature));
            let mut arguments = signed.map_err(|e| failed(&e))?.encoded().to_vec();
            let length = u32::try_from(arguments.len()).map_err(|e| failed(&e))?;
            arguments.extend(length.to_le_bytes());
            let told = at.runtime_apis().call_raw("TransactionPaymentApi_query_info", Some(&arguments)).await;
            // subxt's own estimate takes balances for 128 bits; subtensor's have 64.
            let told = told.map_err(|e| failed(&e))?;
            let types = at.metadata_ref().types();
            FeeInfo::decode_as_type(&mut &*told, method.output_ty(), types).map_err(|e| failed(&e))
        };
        let told = within(self.limits.read, &self.endpoint, &doing, estimating).await?;
        Ok(Some(told.partial_fee))
    }

    /// A refusal for a limit of the chain, with the time until it lets go.
    async fn with_wait(&self, error: ChainError, netuid: u16, hotkey: &KeyPair) -> ChainError {
        let ChainError::Refused { call, error, remedy } = error else { return error };
        let wait = match &error {
            text if text.contains("SpaceLimitExceeded") || text.contains("CommitmentSetRateLimitExceeded") => {
                self.allowance(netuid, &hotkey.ss58()).await.ok().and_then(|allowance| allowance.wait())
            }
            text if text.contains("ServingRateLimitExceeded") => self.serving_wait(netuid, hotkey).await.ok(),
            _ => None,
        };
        let remedy = wait.map_or_else(|| remedy.clone(), |wait| format!("{remedy}: {wait} left"));
        ChainError::Refused { call, error, remedy }
    }

    async fn serving_wait(&self, netuid: u16, hotkey: &KeyPair) -> Result<String, ChainError> {
        let at = &self.at().await?;
        let limit: u64 = self.of_subnet(at, "ServingRateLimit", netuid).await?;
        let last = self.axon_at(at, netuid, hotkey.public()).await?.map_or(0, |axon| axon.block);
        let left = (last + limit).saturating_sub(at.block_number());
        let minutes = (left * block_milliseconds(at)).div_ceil(60_000);
        Ok(format!("{left} blocks (about {minutes} minutes)"))
    }
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct FeeInfo {
    partial_fee: u64,
}

/// The call that registers, and whether it carries the limit (rao) itself.
fn registration(at: &AtBlock, netuid: u16, hotkey: &[u8; 32], limit: u64) -> (Call, bool) {
    let pallet = at.metadata_ref().pallet_by_name("SubtensorModule");
    let limited = pallet.and_then(|pallet| pallet.call_variant_by_name("register_limit")).is_some();
    let call = match limited {
        true => calls::register_limit(netuid, hotkey, limit),
        false => calls::burned_register(netuid, hotkey),
    };
    (call, limited)
}

/// subtensor's number for an address or port it takes from no axon. `0.0.0.0` it would take, but validators skip it.
fn unservable(ip: IpAddr, port: u16) -> Option<u8> {
    if ip.is_loopback() || ip.is_unspecified() || ip == Ipv4Addr::BROADCAST {
        return Some(11);
    }
    (port == 0).then_some(13)
}
