//! What a miner asks the chain. Every read is of the latest finalised block.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use subxt::dynamic::{self, Value};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::ext::scale_value::ValueDef;
use subxt::utils::AccountId32;

use super::{AtBlock, Client, within};
use crate::{ChainError, parse_ss58, ss58};

/// A hotkey's place in a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its slot.
    pub uid: u16,
    /// The block it was registered in.
    pub block: u64,
    /// The coldkey that owns the hotkey, as SS58.
    pub owner: String,
}

/// A hotkey's commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChainCommitment {
    /// The block it was made in; the earlier of two equal models wins.
    pub block: u32,
    /// What a validator reads: the bytes of the first field when that is `Raw0`…`Raw128`, else nothing.
    pub payload: Vec<u8>,
    /// The storage value as it is.
    pub raw: Vec<u8>,
}

/// Where a hotkey says its axon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxonInfo {
    /// The block of the announcement.
    pub block: u64,
    /// bittensor version number of the axon.
    pub version: u32,
    /// Address; `0.0.0.0` counts as not serving.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// bittensor's protocol number.
    pub protocol: u8,
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct StoredAxon {
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct StoredCommitment {
    pub(super) block: u32,
    pub(super) info: StoredCommitmentInfo,
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct StoredCommitmentInfo {
    pub(super) fields: Vec<Value>,
}

impl Client {
    /// The number of the latest finalised block.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`]; the same for every read below.
    pub async fn block_number(&self) -> Result<u64, ChainError> {
        Ok(self.at().await?.block_number())
    }

    /// The version of the runtime at the latest finalised block (`spec_version`), read without its metadata. A client keeps the metadata of
    /// every version it meets.
    ///
    /// # Errors
    /// As [`Client::block_number`].
    pub async fn runtime_version(&self) -> Result<u32, ChainError> {
        let doing = "reading the runtime's version";
        let reading = async {
            let head = self.methods.chain_get_finalized_head().await.map_err(|e| self.rpc(doing, e))?;
            let version = self.methods.state_get_runtime_version(Some(head)).await;
            version.map(|version| version.spec_version).map_err(|e| self.rpc(doing, e))
        };
        within(self.limits.read, &self.endpoint, doing, reading).await
    }

    /// The uid of a hotkey, when it is registered on the subnet.
    ///
    /// # Errors
    /// Also [`ChainError::Address`]; the same for every read that takes an address.
    pub async fn uid(&self, netuid: u16, hotkey: &str) -> Result<Option<u16>, ChainError> {
        self.fetch(&self.at().await?, "SubtensorModule", "Uids", (netuid, parse_ss58(hotkey)?)).await
    }

    /// Whether a hotkey is registered on the subnet.
    ///
    /// # Errors
    /// As [`Client::uid`].
    pub async fn is_registered(&self, netuid: u16, hotkey: &str) -> Result<bool, ChainError> {
        Ok(self.uid(netuid, hotkey).await?.is_some())
    }

    /// Slot, age and owner of a registered hotkey.
    ///
    /// # Errors
    /// As [`Client::uid`].
    pub async fn registration(&self, netuid: u16, hotkey: &str) -> Result<Option<Registration>, ChainError> {
        let (at, account) = (self.at().await?, parse_ss58(hotkey)?);
        let Some(uid) = self.fetch::<_, u16>(&at, "SubtensorModule", "Uids", (netuid, account)).await? else {
            return Ok(None);
        };
        let block = self.fetch(&at, "SubtensorModule", "BlockAtRegistration", (netuid, uid)).await?.unwrap_or(0);
        let owner = self.owner_at(&at, account).await?;
        let owner =
            owner.ok_or_else(|| self.rpc("reading SubtensorModule.Owner", "a registered hotkey without one"))?;
        Ok(Some(Registration { uid, block, owner }))
    }

    /// The coldkey that owns a hotkey, as SS58. The chain answers 32 zero bytes for a hotkey it does not know.
    pub(super) async fn owner_at(&self, at: &AtBlock, hotkey: [u8; 32]) -> Result<Option<String>, ChainError> {
        let owner: Option<AccountId32> = self.fetch(at, "SubtensorModule", "Owner", (hotkey,)).await?;
        Ok(owner.filter(|owner| owner.0 != [0; 32]).map(|owner| ss58(&owner.0)))
    }

    /// Every registered hotkey of a subnet as SS58, in the order of the uids.
    ///
    /// # Errors
    /// As [`Client::block_number`].
    pub async fn registered_hotkeys(&self, netuid: u16) -> Result<Vec<String>, ChainError> {
        let at = &self.at().await?;
        let mut keys: Vec<((u16, u16), AccountId32)> = self.iterate(at, "SubtensorModule", "Keys", netuid).await?;
        keys.sort_by_key(|((_, uid), _)| *uid);
        Ok(keys.iter().map(|(_, hotkey)| ss58(&hotkey.0)).collect())
    }

    /// What registering on the subnet burns now, in rao (10⁻⁹ TAO).
    ///
    /// # Errors
    /// As [`Client::block_number`].
    pub async fn burn(&self, netuid: u16) -> Result<u64, ChainError> {
        let burn = self.fetch(&self.at().await?, "SubtensorModule", "Burn", (netuid,)).await?;
        burn.ok_or_else(|| self.rpc("reading SubtensorModule.Burn", "the chain names none"))
    }

    /// A hotkey's commitment on the subnet.
    ///
    /// # Errors
    /// As [`Client::uid`].
    pub async fn commitment(&self, netuid: u16, hotkey: &str) -> Result<Option<OnChainCommitment>, ChainError> {
        self.commitment_at(&self.at().await?, netuid, parse_ss58(hotkey)?).await
    }

    pub(super) async fn commitment_at(
        &self,
        at: &AtBlock,
        netuid: u16,
        hotkey: [u8; 32],
    ) -> Result<Option<OnChainCommitment>, ChainError> {
        let doing = "reading Commitments.CommitmentOf";
        let address = dynamic::storage::<_, Value>("Commitments", "CommitmentOf");
        let reading = async { at.storage().try_fetch(address, (netuid, hotkey)).await.map_err(|e| self.rpc(doing, e)) };
        let Some(value) = super::within(self.limits.read, &self.endpoint, doing, reading).await? else {
            return Ok(None);
        };
        let stored: StoredCommitment = value.decode_as().map_err(|e| self.rpc(doing, e))?;
        let payload = stored.info.fields.first().and_then(raw_bytes).unwrap_or_default();
        Ok(Some(OnChainCommitment { block: stored.block, payload, raw: value.into_bytes() }))
    }

    /// Where a hotkey announced its axon on the subnet.
    ///
    /// # Errors
    /// As [`Client::uid`].
    pub async fn axon(&self, netuid: u16, hotkey: &str) -> Result<Option<AxonInfo>, ChainError> {
        self.axon_at(&self.at().await?, netuid, parse_ss58(hotkey)?).await
    }

    pub(super) async fn axon_at(
        &self,
        at: &AtBlock,
        netuid: u16,
        hotkey: [u8; 32],
    ) -> Result<Option<AxonInfo>, ChainError> {
        let stored: Option<StoredAxon> = self.fetch(at, "SubtensorModule", "Axons", (netuid, hotkey)).await?;
        Ok(stored.as_ref().map(axon_info))
    }
}

pub(super) fn axon_info(axon: &StoredAxon) -> AxonInfo {
    let &StoredAxon { block, version, ip, port, ip_type, protocol } = axon;
    AxonInfo { block, version, ip: ip_of(ip, ip_type), port, protocol }
}

/// The bytes of a `RawN` field; the other kinds of field are nothing a De-Val validator reads.
pub(super) fn raw_bytes(field: &Value) -> Option<Vec<u8>> {
    let ValueDef::Variant(variant) = &field.value else { return None };
    variant.name.strip_prefix("Raw")?.parse::<u8>().ok()?;
    let content = variant.values.values().next()?;
    let ValueDef::Composite(bytes) = &content.value else { return None };
    bytes.values().map(|byte| byte.as_u128().and_then(|byte| u8::try_from(byte).ok())).collect()
}

/// The inverse of [`super::calls::ip_number`].
fn ip_of(number: u128, ip_type: u8) -> IpAddr {
    match (ip_type, u32::try_from(number)) {
        (4, Ok(number)) => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}
