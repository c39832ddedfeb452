//! A subnet as one block has it: its parameters, and every neuron with what validators look at.

use futures::{StreamExt, TryStreamExt, stream};
use subxt::dynamic;
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::utils::AccountId32;

use super::reads::{StoredAxon, axon_info};
use super::{AtBlock, AxonInfo, Client, within};
use crate::{ChainError, parse_ss58, ss58};

/// Requests in flight while the owners of hotkeys are read.
const PARALLEL_READS: usize = 32;
/// subtensor's block time, for chains that name none in their metadata.
const DEFAULT_BLOCK_MILLISECONDS: u64 = 12_000;

/// What a subnet asks of its miners, at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetParameters {
    /// The subnet.
    pub netuid: u16,
    /// The finalised block all of this was read at.
    pub block: u64,
    /// Neurons registered now.
    pub neurons: u16,
    /// Most neurons there can be; a registration beyond takes the seat of the weakest one that is not immune.
    pub max_neurons: u16,
    /// Blocks of an epoch, less one.
    pub tempo: u16,
    /// What registering burns now, in rao (10⁻⁹ TAO).
    pub burn: u64,
    /// Blocks in which a new neuron is not pruned.
    pub immunity_period: u16,
    /// Blocks between two announcements of one hotkey's axon.
    pub serving_rate_limit: u64,
    /// Whether the subnet takes registrations.
    pub registration_allowed: bool,
    /// Time between two blocks, in milliseconds.
    pub block_milliseconds: u64,
}

/// All neurons of a subnet at one block, by uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metagraph {
    /// The subnet.
    pub netuid: u16,
    /// The finalised block all of this was read at.
    pub block: u64,
    /// The neurons, in the order of their uids.
    pub neurons: Vec<Neuron>,
}

/// One neuron.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neuron {
    /// Its slot.
    pub uid: u16,
    /// Its hotkey, as SS58.
    pub hotkey: String,
    /// The coldkey that owns the hotkey, as SS58.
    pub coldkey: String,
    /// The block it was registered in.
    pub registered_at: u64,
    /// Its share of what all miners earn, in 65535ths.
    pub incentive: u16,
    /// Whether it may set weights.
    pub validator_permit: bool,
    /// Where it says its axon is, if it ever did.
    pub axon: Option<AxonInfo>,
}

/// A uid's place by incentive among all uids of the subnet (competition ranking: equal incentives share the best place).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncentiveRank {
    /// The incentive, in 65535ths.
    pub incentive: u16,
    /// The place, from 1.
    pub rank: usize,
    /// Uids with the same incentive, this one included.
    pub sharing: usize,
    /// Uids of the subnet.
    pub of: usize,
}

impl Metagraph {
    /// The neuron of a hotkey (SS58).
    pub fn neuron(&self, hotkey: &str) -> Option<&Neuron> {
        self.neurons.iter().find(|neuron| neuron.hotkey == hotkey)
    }

    /// The place of a uid by its incentive; nothing for a uid that nobody has.
    pub fn incentive_rank(&self, uid: u16) -> Option<IncentiveRank> {
        let incentive = self.neurons.iter().find(|neuron| neuron.uid == uid)?.incentive;
        let count =
            |wanted: &dyn Fn(u16) -> bool| self.neurons.iter().filter(|neuron| wanted(neuron.incentive)).count();
        let rank = 1 + count(&|other| other > incentive);
        Some(IncentiveRank { incentive, rank, sharing: count(&|other| other == incentive), of: self.neurons.len() })
    }
}

impl Neuron {
    /// Whether a validator counts it as serving: it announced an axon, and not at `0.0.0.0` (bittensor's `is_serving`).
    pub fn is_serving(&self) -> bool {
        self.axon.as_ref().is_some_and(|axon| !axon.ip.is_unspecified())
    }
}

impl IncentiveRank {
    /// Whether a validator that takes the `places` highest incentives takes this uid. Nothing when equals would have to be told
    /// apart: upstream sorts them with an unstable sort (`deval/utils/uids.py`, `np.argsort`).
    pub fn is_among(&self, places: usize) -> Option<bool> {
        if self.rank > places {
            return Some(false);
        }
        (self.rank - 1 + self.sharing <= places).then_some(true)
    }
}

/// `Vec<Compact<u64>>` of the runtime's `Metagraph`; the other fields are read from storage.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct StakeOfMetagraph {
    total_stake: Vec<u64>,
}

impl Client {
    /// A subnet's parameters; nothing when the chain has no such subnet.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn subnet(&self, netuid: u16) -> Result<Option<SubnetParameters>, ChainError> {
        let at = &self.at().await?;
        if !self.of_subnet::<bool>(at, "NetworksAdded", netuid).await? {
            return Ok(None);
        }
        Ok(Some(SubnetParameters {
            netuid,
            block: at.block_number(),
            neurons: self.of_subnet(at, "SubnetworkN", netuid).await?,
            max_neurons: self.of_subnet(at, "MaxAllowedUids", netuid).await?,
            tempo: self.of_subnet(at, "Tempo", netuid).await?,
            burn: self.of_subnet(at, "Burn", netuid).await?,
            immunity_period: self.of_subnet(at, "ImmunityPeriod", netuid).await?,
            serving_rate_limit: self.of_subnet(at, "ServingRateLimit", netuid).await?,
            registration_allowed: self.of_subnet(at, "NetworkRegistrationAllowed", netuid).await?,
            block_milliseconds: block_milliseconds(at),
        }))
    }

    /// All neurons of a subnet, read at one block; empty when the chain has no such subnet.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn metagraph(&self, netuid: u16) -> Result<Metagraph, ChainError> {
        let at = &self.at().await?;
        let keys: Vec<((u16, u16), AccountId32)> = self.iterate(at, "SubtensorModule", "Keys", netuid).await?;
        let ages: Vec<((u16, u16), u64)> = self.iterate(at, "SubtensorModule", "BlockAtRegistration", netuid).await?;
        let axons: Vec<((u16, [u8; 32]), StoredAxon)> = self.iterate(at, "SubtensorModule", "Axons", netuid).await?;
        let incentives: Vec<u16> = self.of_subnet(at, "Incentive", netuid).await?;
        let permits: Vec<bool> = self.of_subnet(at, "ValidatorPermit", netuid).await?;
        let owners = stream::iter(&keys)
            .map(|(_, hotkey)| self.fetch::<_, AccountId32>(at, "SubtensorModule", "Owner", (hotkey.0,)))
            .buffered(PARALLEL_READS);
        let owners: Vec<_> = owners.try_collect().await?;
        let neuron = |(((_, uid), hotkey), owner): (&((u16, u16), AccountId32), Option<AccountId32>)| Neuron {
            uid: *uid,
            hotkey: ss58(&hotkey.0),
            coldkey: owner.map(|owner| ss58(&owner.0)).unwrap_or_default(),
            registered_at: ages.iter().find(|((_, of), _)| of == uid).map_or(0, |(_, block)| *block),
            incentive: incentives.get(usize::from(*uid)).copied().unwrap_or(0),
            validator_permit: permits.get(usize::from(*uid)).copied().unwrap_or(false),
            axon: axons.iter().find(|((_, of), _)| *of == hotkey.0).map(|(_, axon)| axon_info(axon)),
        };
        let mut neurons: Vec<_> = keys.iter().zip(owners).map(neuron).collect();
        neurons.sort_by_key(|neuron| neuron.uid);
        Ok(Metagraph { netuid, block: at.block_number(), neurons })
    }

    /// The stake of a uid as bittensor's metagraph tells it (`S`: alpha and weighted TAO, own and inherited), in 10⁻⁹. Nothing when
    /// nobody has the uid or the runtime has no interface that tells.
    ///
    /// # Errors
    /// [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn total_stake(&self, netuid: u16, uid: u16) -> Result<Option<u64>, ChainError> {
        const INTERFACE: &str = "SubnetInfoRuntimeApi";
        const METHOD: &str = "get_metagraph";
        let at = &self.at().await?;
        let known = at.metadata_ref().runtime_api_trait_by_name(INTERFACE);
        if known.and_then(|interface| interface.method_by_name(METHOD)).is_none() {
            return Ok(None);
        }
        let doing = "reading the stakes of the subnet";
        let call = dynamic::runtime_api_call::<_, Option<StakeOfMetagraph>>(INTERFACE, METHOD, (netuid,));
        let reading = async { at.runtime_apis().call(call).await.map_err(|e| self.rpc(doing, e)) };
        let read = within(self.limits.read, &self.endpoint, doing, reading).await?;
        Ok(read.and_then(|read| read.total_stake.get(usize::from(uid)).copied()))
    }

    /// The free balance of an account (SS58), in rao.
    ///
    /// # Errors
    /// [`ChainError::Address`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn balance(&self, account: &str) -> Result<u64, ChainError> {
        let (at, account) = (self.at().await?, parse_ss58(account)?);
        let stored: Option<StoredAccount> = self.fetch(&at, "System", "Account", (account,)).await?;
        Ok(stored.map_or(0, |account| account.data.free))
    }

    /// A value of `SubtensorModule` that every subnet has, be it by default.
    pub(super) async fn of_subnet<V: DecodeAsType>(
        &self,
        at: &AtBlock,
        entry: &str,
        netuid: u16,
    ) -> Result<V, ChainError> {
        let value = self.fetch(at, "SubtensorModule", entry, (netuid,)).await?;
        value.ok_or_else(|| self.rpc(format!("reading SubtensorModule.{entry}"), "the chain names none"))
    }

    /// All values of a double map under one subnet, in pages.
    pub(super) async fn iterate<K, V>(
        &self,
        at: &AtBlock,
        pallet: &str,
        entry: &str,
        netuid: u16,
    ) -> Result<Vec<((u16, K), V)>, ChainError>
    where
        (u16, K): IntoEncodableValues + IntoDecodableValues,
        V: DecodeAsType,
    {
        let doing = format!("reading all of {pallet}.{entry}");
        let failed = |e: &dyn ToString| self.rpc(&*doing, e.to_string());
        let reading = async {
            let address = dynamic::storage::<(u16, K), V>(pallet, entry);
            let mut values = at.storage().iter(address, (netuid,)).await.map_err(|e| failed(&e))?;
            let mut all = Vec::new();
            while let Some(found) = values.next().await {
                let found = found.map_err(|e| failed(&e))?;
                let key = found.key().and_then(|key| key.decode()).map_err(|e| failed(&e))?;
                all.push((key, found.value().decode().map_err(|e| failed(&e))?));
            }
            Ok(all)
        };
        within(self.limits.read, &self.endpoint, &doing, reading).await
    }
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct StoredAccount {
    data: StoredBalance,
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct StoredBalance {
    free: u64,
}

/// `Aura.SlotDuration`, which the metadata holds.
pub(super) fn block_milliseconds(at: &AtBlock) -> u64 {
    let slot = dynamic::constant::<u64>("Aura", "SlotDuration");
    at.constants().entry(slot).unwrap_or(DEFAULT_BLOCK_MILLISECONDS)
}
