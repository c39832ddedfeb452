//! What the runtime interfaces tell of a subnet: subtensor's `rpc_info`, field by field as in spec 393, which is what the SDK's
//! metagraph reads. Economy and consensus do not run here: what they would give is zero, or what a test wrote.
#![expect(unreachable_pub, reason = "the types appear in the interfaces that the runtime macros make `pub`")]

use frame_support::pallet_prelude::*;
use parity_scale_codec::Compact;

use crate::chain::commitments::CommitmentOf;
use crate::chain::runtime::{AccountId, Runtime, SubtensorModule};
use crate::chain::subtensor::*;

/// Upstream's `I96F32`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct FixedI128 {
    /// The number times 2³².
    pub bits: i128,
}

/// Upstream's `SubnetIdentityV3`; no subnet here has one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct SubnetIdentity {
    /// The subnet's name.
    pub subnet_name: Vec<u8>,
    /// Its repository.
    pub github_repo: Vec<u8>,
    /// Whom to ask.
    pub subnet_contact: Vec<u8>,
    /// Its page.
    pub subnet_url: Vec<u8>,
    /// Its Discord.
    pub discord: Vec<u8>,
    /// What it does.
    pub description: Vec<u8>,
    /// Its logo.
    pub logo_url: Vec<u8>,
    /// Anything else.
    pub additional: Vec<u8>,
}

/// Upstream's `ChainIdentityV2`; no coldkey here has one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ChainIdentity {
    /// The name.
    pub name: Vec<u8>,
    /// The page.
    pub url: Vec<u8>,
    /// The repository.
    pub github_repo: Vec<u8>,
    /// The picture.
    pub image: Vec<u8>,
    /// The Discord.
    pub discord: Vec<u8>,
    /// What it does.
    pub description: Vec<u8>,
    /// Anything else.
    pub additional: Vec<u8>,
}

type Bytes = Vec<Compact<u8>>;
type Counts = Vec<Compact<u16>>;
type Amounts = Vec<Compact<u64>>;
type Shares = Vec<(AccountId, Compact<u64>)>;

/// Makes both forms of the metagraph from one list: field, type, and where its value comes from.
macro_rules! metagraphs {
    ($netuid:ident; $($field:ident: $type:ty = $value:expr,)*) => {
        /// A subnet at once; upstream's `Metagraph`.
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct Metagraph {
            pub netuid: Compact<u16>,
            $(pub $field: $type,)*
        }

        /// The fields of a [`Metagraph`] that were asked for; upstream's `SelectiveMetagraph`.
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct SelectiveMetagraph {
            pub netuid: Compact<u16>,
            $(pub $field: Option<$type>,)*
            pub validators: Option<Counts>,
            pub commitments: Option<Vec<(AccountId, Bytes)>>,
        }

        /// A subnet that exists.
        pub fn metagraph($netuid: u16) -> Option<Metagraph> {
            NetworksAdded::<Runtime>::get($netuid).then(|| Metagraph { netuid: Compact($netuid), $($field: $value,)* })
        }

        /// The fields of a subnet whose place, counted from 1 behind `netuid`, is among `wanted`.
        pub fn selective_metagraph($netuid: u16, wanted: &[u16]) -> Option<SelectiveMetagraph> {
            let all = metagraph($netuid)?;
            let mut place = 0;
            let mut next = || {
                place += 1;
                wanted.contains(&place)
            };
            $(let $field = next().then_some(all.$field);)*
            let validators = next().then(|| validators($netuid));
            let commitments = next().then(|| commitments($netuid));
            Some(SelectiveMetagraph { netuid: all.netuid, $($field,)* validators, commitments })
        }
    };
}

metagraphs! {
    netuid;
    name: Bytes = text("De-Val stand-in"),
    symbol: Bytes = text(""),
    identity: Option<SubnetIdentity> = None,
    network_registered_at: Compact<u64> = Compact(NetworkRegisteredAt::<Runtime>::get(netuid)),
    owner_hotkey: AccountId = SubnetOwnerHotkey::<Runtime>::get(netuid),
    owner_coldkey: AccountId = SubnetOwner::<Runtime>::get(netuid),
    block: Compact<u64> = Compact(SubtensorModule::now()),
    tempo: Compact<u16> = Compact(Tempo::<Runtime>::get(netuid)),
    last_step: Compact<u64> = Compact(last_step(netuid)),
    blocks_since_last_step: Compact<u64> = Compact(SubtensorModule::now() - last_step(netuid)),
    subnet_emission: Compact<u64> = Compact(0),
    alpha_in: Compact<u64> = Compact(0),
    alpha_out: Compact<u64> = Compact(0),
    tao_in: Compact<u64> = Compact(0),
    alpha_out_emission: Compact<u64> = Compact(0),
    alpha_in_emission: Compact<u64> = Compact(0),
    tao_in_emission: Compact<u64> = Compact(0),
    pending_alpha_emission: Compact<u64> = Compact(0),
    pending_root_emission: Compact<u64> = Compact(0),
    subnet_volume: Compact<u128> = Compact(0),
    moving_price: FixedI128 = FixedI128::default(),
    rho: Compact<u16> = Compact(10),
    kappa: Compact<u16> = Compact(32767),
    min_allowed_weights: Compact<u16> = Compact(1024),
    max_weights_limit: Compact<u16> = Compact(65535),
    weights_version: Compact<u64> = Compact(0),
    weights_rate_limit: Compact<u64> = Compact(100),
    activity_cutoff: Compact<u16> = Compact(ActivityCutoff::<Runtime>::get(netuid)),
    max_validators: Compact<u16> = Compact(128),
    num_uids: Compact<u16> = Compact(SubnetworkN::<Runtime>::get(netuid)),
    max_uids: Compact<u16> = Compact(MaxAllowedUids::<Runtime>::get(netuid)),
    burn: Compact<u64> = Compact(Burn::<Runtime>::get(netuid)),
    difficulty: Compact<u64> = Compact(10_000_000),
    registration_allowed: bool = NetworkRegistrationAllowed::<Runtime>::get(netuid),
    pow_registration_allowed: bool = false,
    immunity_period: Compact<u16> = Compact(ImmunityPeriod::<Runtime>::get(netuid)),
    min_difficulty: Compact<u64> = Compact(10_000_000),
    max_difficulty: Compact<u64> = Compact(u64::MAX / 4),
    min_burn: Compact<u64> = Compact(MinBurn::<Runtime>::get(netuid)),
    max_burn: Compact<u64> = Compact(MaxBurn::<Runtime>::get(netuid)),
    adjustment_alpha: Compact<u64> = Compact(0),
    adjustment_interval: Compact<u16> = Compact(AdjustmentInterval::<Runtime>::get(netuid)),
    target_regs_per_interval: Compact<u16> = Compact(TargetRegistrationsPerInterval::<Runtime>::get(netuid)),
    max_regs_per_block: Compact<u16> = Compact(MaxRegistrationsPerBlock::<Runtime>::get(netuid)),
    serving_rate_limit: Compact<u64> = Compact(ServingRateLimit::<Runtime>::get(netuid)),
    commit_reveal_weights_enabled: bool = false,
    commit_reveal_period: Compact<u64> = Compact(1),
    liquid_alpha_enabled: bool = false,
    alpha_high: Compact<u16> = Compact(58982),
    alpha_low: Compact<u16> = Compact(45875),
    bonds_moving_avg: Compact<u64> = Compact(900_000),
    hotkeys: Vec<AccountId> = hotkeys(netuid),
    coldkeys: Vec<AccountId> = hotkeys(netuid).iter().map(Owner::<Runtime>::get).collect(),
    identities: Vec<Option<ChainIdentity>> = vec![None; hotkeys(netuid).len()],
    axons: Vec<AxonInfo> = hotkeys(netuid).iter().map(|hotkey| axon(netuid, hotkey)).collect(),
    active: Vec<bool> = Active::<Runtime>::get(netuid),
    validator_permit: Vec<bool> = ValidatorPermit::<Runtime>::get(netuid),
    pruning_score: Counts = counts(PruningScores::<Runtime>::get(netuid)),
    last_update: Amounts = amounts(LastUpdate::<Runtime>::get(netuid)),
    emission: Amounts = amounts(Emission::<Runtime>::get(netuid)),
    dividends: Counts = counts(Dividends::<Runtime>::get(netuid)),
    incentives: Counts = counts(Incentive::<Runtime>::get(netuid)),
    consensus: Counts = counts(Consensus::<Runtime>::get(netuid)),
    trust: Counts = counts(Trust::<Runtime>::get(netuid)),
    rank: Counts = counts(Rank::<Runtime>::get(netuid)),
    block_at_registration: Amounts = since(netuid),
    alpha_stake: Amounts = stakes(netuid),
    tao_stake: Amounts = vec![Compact(0); hotkeys(netuid).len()],
    total_stake: Amounts = stakes(netuid),
    tao_dividends_per_hotkey: Shares = Vec::new(),
    alpha_dividends_per_hotkey: Shares = Vec::new(),
}

/// Every subnet's, by ascending netuid.
pub fn metagraphs() -> Vec<Option<Metagraph>> {
    let mut netuids = NetworksAdded::<Runtime>::iter_keys().collect::<Vec<_>>();
    netuids.sort_unstable();
    netuids.into_iter().map(metagraph).collect()
}

/// The neurons of a subnet with their stake; upstream's `SubnetState`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct SubnetState {
    pub netuid: Compact<u16>,
    pub hotkeys: Vec<AccountId>,
    pub coldkeys: Vec<AccountId>,
    pub active: Vec<bool>,
    pub validator_permit: Vec<bool>,
    pub pruning_score: Counts,
    pub last_update: Amounts,
    pub emission: Amounts,
    pub dividends: Counts,
    pub incentives: Counts,
    pub consensus: Counts,
    pub trust: Counts,
    pub rank: Counts,
    pub block_at_registration: Amounts,
    pub alpha_stake: Amounts,
    pub tao_stake: Amounts,
    pub total_stake: Amounts,
    pub emission_history: Vec<Amounts>,
}

/// A subnet's settings; upstream's `SubnetHyperparams`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct SubnetHyperparams {
    pub rho: Compact<u16>,
    pub kappa: Compact<u16>,
    pub immunity_period: Compact<u16>,
    pub min_allowed_weights: Compact<u16>,
    pub max_weights_limit: Compact<u16>,
    pub tempo: Compact<u16>,
    pub min_difficulty: Compact<u64>,
    pub max_difficulty: Compact<u64>,
    pub weights_version: Compact<u64>,
    pub weights_rate_limit: Compact<u64>,
    pub adjustment_interval: Compact<u16>,
    pub activity_cutoff: Compact<u16>,
    pub registration_allowed: bool,
    pub target_regs_per_interval: Compact<u16>,
    pub min_burn: Compact<u64>,
    pub max_burn: Compact<u64>,
    pub bonds_moving_avg: Compact<u64>,
    pub max_regs_per_block: Compact<u16>,
    pub serving_rate_limit: Compact<u64>,
    pub max_validators: Compact<u16>,
    pub adjustment_alpha: Compact<u64>,
    pub difficulty: Compact<u64>,
    pub commit_reveal_period: Compact<u64>,
    pub commit_reveal_weights_enabled: bool,
    pub alpha_high: Compact<u16>,
    pub alpha_low: Compact<u16>,
    pub liquid_alpha_enabled: bool,
}

impl From<Metagraph> for SubnetState {
    fn from(all: Metagraph) -> Self {
        let emission_history = vec![Amounts::new(); all.hotkeys.len()];
        Self {
            netuid: all.netuid,
            hotkeys: all.hotkeys,
            coldkeys: all.coldkeys,
            active: all.active,
            validator_permit: all.validator_permit,
            pruning_score: all.pruning_score,
            last_update: all.last_update,
            emission: all.emission,
            dividends: all.dividends,
            incentives: all.incentives,
            consensus: all.consensus,
            trust: all.trust,
            rank: all.rank,
            block_at_registration: all.block_at_registration,
            alpha_stake: all.alpha_stake,
            tao_stake: all.tao_stake,
            total_stake: all.total_stake,
            emission_history,
        }
    }
}

impl From<Metagraph> for SubnetHyperparams {
    fn from(all: Metagraph) -> Self {
        Self {
            rho: all.rho,
            kappa: all.kappa,
            immunity_period: all.immunity_period,
            min_allowed_weights: all.min_allowed_weights,
            max_weights_limit: all.max_weights_limit,
            tempo: all.tempo,
            min_difficulty: all.min_difficulty,
            max_difficulty: all.max_difficulty,
            weights_version: all.weights_version,
            weights_rate_limit: all.weights_rate_limit,
            adjustment_interval: all.adjustment_interval,
            activity_cutoff: all.activity_cutoff,
            registration_allowed: all.registration_allowed,
            target_regs_per_interval: all.target_regs_per_interval,
            min_burn: all.min_burn,
            max_burn: all.max_burn,
            bonds_moving_avg: all.bonds_moving_avg,
            max_regs_per_block: all.max_regs_per_block,
            serving_rate_limit: all.serving_rate_limit,
            max_validators: all.max_validators,
            adjustment_alpha: all.adjustment_alpha,
            difficulty: all.difficulty,
            commit_reveal_period: all.commit_reveal_period,
            commit_reveal_weights_enabled: all.commit_reveal_weights_enabled,
            alpha_high: all.alpha_high,
            alpha_low: all.alpha_low,
            liquid_alpha_enabled: all.liquid_alpha_enabled,
        }
    }
}

type Pairs = Vec<(Compact<u16>, Compact<u16>)>;

/// Makes both forms of a neuron from one list.
macro_rules! neurons {
    ($netuid:ident, $uid:ident; $($field:ident: $type:ty = $value:expr,)*) => {
        /// A neuron without its weights; upstream's `NeuronInfoLite`.
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct NeuronInfoLite {
            $(pub $field: $type,)*
            pub pruning_score: Compact<u16>,
        }

        /// A neuron; upstream's `NeuronInfo`. Weights and bonds are always empty here.
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
        pub struct NeuronInfo {
            $(pub $field: $type,)*
            pub weights: Pairs,
            pub bonds: Pairs,
            pub pruning_score: Compact<u16>,
        }

        /// The neuron of a uid that is taken.
        pub fn neuron_lite($netuid: u16, $uid: u16) -> Option<NeuronInfoLite> {
            let pruning_score = Compact(at(PruningScores::<Runtime>::get($netuid), $uid));
            ($uid < SubnetworkN::<Runtime>::get($netuid)).then(|| NeuronInfoLite { $($field: $value,)* pruning_score })
        }

        impl From<NeuronInfoLite> for NeuronInfo {
            fn from(lite: NeuronInfoLite) -> Self {
                let (weights, bonds, pruning_score) = (Pairs::new(), Pairs::new(), lite.pruning_score);
                Self { $($field: lite.$field,)* weights, bonds, pruning_score }
            }
        }
    };
}

neurons! {
    netuid, uid;
    hotkey: AccountId = Keys::<Runtime>::get(netuid, uid),
    coldkey: AccountId = Owner::<Runtime>::get(Keys::<Runtime>::get(netuid, uid)),
    uid: Compact<u16> = Compact(uid),
    netuid: Compact<u16> = Compact(netuid),
    active: bool = at(Active::<Runtime>::get(netuid), uid),
    axon_info: AxonInfo = axon(netuid, &Keys::<Runtime>::get(netuid, uid)),
    prometheus_info: PrometheusInfo = Prometheus::<Runtime>::get(netuid, Keys::<Runtime>::get(netuid, uid)).unwrap_or_default(),
    stake: Shares = stake(netuid, uid),
    rank: Compact<u16> = Compact(at(Rank::<Runtime>::get(netuid), uid)),
    emission: Compact<u64> = Compact(at(Emission::<Runtime>::get(netuid), uid)),
    incentive: Compact<u16> = Compact(at(Incentive::<Runtime>::get(netuid), uid)),
    consensus: Compact<u16> = Compact(at(Consensus::<Runtime>::get(netuid), uid)),
    trust: Compact<u16> = Compact(at(Trust::<Runtime>::get(netuid), uid)),
    validator_trust: Compact<u16> = Compact(at(ValidatorTrust::<Runtime>::get(netuid), uid)),
    dividends: Compact<u16> = Compact(at(Dividends::<Runtime>::get(netuid), uid)),
    last_update: Compact<u64> = Compact(at(LastUpdate::<Runtime>::get(netuid), uid)),
    validator_permit: bool = at(ValidatorPermit::<Runtime>::get(netuid), uid),
}

/// All neurons of a subnet by uid.
pub fn neurons_lite(netuid: u16) -> Vec<NeuronInfoLite> {
    (0..SubnetworkN::<Runtime>::get(netuid)).filter_map(|uid| neuron_lite(netuid, uid)).collect()
}

fn text(text: &str) -> Bytes {
    text.bytes().map(Compact).collect()
}

fn counts(values: Vec<u16>) -> Counts {
    values.into_iter().map(Compact).collect()
}

fn amounts(values: Vec<u64>) -> Amounts {
    values.into_iter().map(Compact).collect()
}

/// The value of a uid; the default where there is none.
fn at<T: Copy + Default>(values: Vec<T>, uid: u16) -> T {
    values.get(usize::from(uid)).copied().unwrap_or_default()
}

fn hotkeys(netuid: u16) -> Vec<AccountId> {
    (0..SubnetworkN::<Runtime>::get(netuid)).map(|uid| Keys::<Runtime>::get(netuid, uid)).collect()
}

/// The announced axon; all zero, address included, where there is none.
fn axon(netuid: u16, hotkey: &AccountId) -> AxonInfo {
    Axons::<Runtime>::get(netuid, hotkey).unwrap_or_default()
}

fn since(netuid: u16) -> Amounts {
    let uids = 0..SubnetworkN::<Runtime>::get(netuid);
    uids.map(|uid| Compact(BlockAtRegistration::<Runtime>::get(netuid, uid))).collect()
}

/// What the coldkey has staked on its hotkey.
fn stake(netuid: u16, uid: u16) -> Shares {
    let hotkey = Keys::<Runtime>::get(netuid, uid);
    vec![(Owner::<Runtime>::get(&hotkey), Compact(TotalHotkeyAlpha::<Runtime>::get(hotkey, netuid)))]
}

fn stakes(netuid: u16) -> Amounts {
    hotkeys(netuid).iter().map(|hotkey| Compact(TotalHotkeyAlpha::<Runtime>::get(hotkey, netuid))).collect()
}

/// The block in which the current epoch began, or 0.
fn last_step(netuid: u16) -> u64 {
    let (now, length) = (SubtensorModule::now(), u64::from(Tempo::<Runtime>::get(netuid)) + 1);
    now.saturating_sub((now + u64::from(netuid) + 1) % length)
}

fn validators(netuid: u16) -> Counts {
    let permits = ValidatorPermit::<Runtime>::get(netuid);
    (0_u16..).zip(permits).filter(|(_, permit)| *permit).map(|(uid, _)| Compact(uid)).collect()
}

/// As upstream does: the bytes of the stored value, not the payload.
fn commitments(netuid: u16) -> Vec<(AccountId, Bytes)> {
    let bytes = |value: Vec<u8>| value.into_iter().map(Compact).collect();
    CommitmentOf::<Runtime>::iter_prefix(netuid).map(|(who, commitment)| (who, bytes(commitment.encode()))).collect()
}
