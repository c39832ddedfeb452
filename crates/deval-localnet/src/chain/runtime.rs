//! The runtime: pallets, extensions and runtime interfaces, executed natively.

use frame_metadata::{RuntimeMetadataPrefixed, v15};
use frame_support::derive_impl;
use frame_support::storage::unhashed;
use frame_support::traits::{ConstU16, ConstU32, ConstU64, Get};
use frame_support::weights::{IdentityFee, Weight, WeightToFee};
use pallet_transaction_payment::{FeeDetails, FungibleAdapter, RuntimeDispatchInfo};
use parity_scale_codec::Encode;
use scale_info::{IntoPortable, Registry};
use sp_core::OpaqueMetadata;
use sp_runtime::traits::{BlakeTwo256, Block as BlockT};
use sp_runtime::{Cow, ExtrinsicInclusionMode, MultiAddress, MultiSignature, generic};
use sp_version::RuntimeVersion;

use crate::chain::commitments::{self, Subnets};
use crate::chain::extensions::{
    CheckNonce, CheckShieldedTxValidity, DrandPriority, SubtensorTransactionExtension, SudoTransactionExtension,
};
use crate::chain::info::{self, Metagraph, NeuronInfo, NeuronInfoLite, SelectiveMetagraph};
use crate::chain::info::{SubnetHyperparams, SubnetState};
use crate::chain::{data, subtensor};

/// An account: 32 bytes, an sr25519 public key.
pub type AccountId = sp_runtime::AccountId32;
/// Rao; 10⁹ are one TAO.
pub type Balance = u64;
/// A block header.
pub type Header = generic::Header<u32, BlakeTwo256>;
/// A block.
pub type Block = generic::Block<Header, UncheckedExtrinsic>;
/// A transaction as it comes over the wire.
pub type UncheckedExtrinsic =
    generic::UncheckedExtrinsic<MultiAddress<AccountId, ()>, RuntimeCall, MultiSignature, Extensions>;
/// The transaction extensions, in the order and under the names of subtensor's spec 393; nested as there, because tuples end at
/// twelve.
pub type Extensions = (
    frame_system::CheckNonZeroSender<Runtime>,
    frame_system::CheckSpecVersion<Runtime>,
    frame_system::CheckTxVersion<Runtime>,
    frame_system::CheckGenesis<Runtime>,
    frame_system::CheckEra<Runtime>,
    CheckNonce,
    frame_system::CheckWeight<Runtime>,
    (
        pallet_transaction_payment::ChargeTransactionPayment<Runtime>,
        SudoTransactionExtension,
        CheckShieldedTxValidity,
        SubtensorTransactionExtension,
        DrandPriority,
    ),
    frame_metadata_hash_extension::CheckMetadataHash<Runtime>,
);
/// What runs blocks.
pub type Executive =
    frame_executive::Executive<Runtime, Block, frame_system::ChainContext<Runtime>, Runtime, AllPalletsWithSystem>;

/// The runtime's name and first versions; the name says that this is not subtensor.
pub const VERSION: RuntimeVersion = RuntimeVersion {
    spec_name: Cow::Borrowed("deval-localnet"),
    impl_name: Cow::Borrowed("deval-localnet"),
    authoring_version: 1,
    spec_version: 1,
    impl_version: 1,
    apis: RUNTIME_API_VERSIONS,
    transaction_version: 1,
    system_version: 1,
};

/// State key of how often the runtime was "upgraded": only its `spec_version` differs then.
const UPGRADES: &[u8] = b":deval-localnet:upgrades";

/// [`VERSION`] with the upgrades so far.
pub struct Version;

impl Get<RuntimeVersion> for Version {
    fn get() -> RuntimeVersion {
        let upgrades: u32 = unhashed::get_or_default(UPGRADES);
        RuntimeVersion { spec_version: VERSION.spec_version + upgrades, ..VERSION }
    }
}

/// Raises `spec_version` by one.
pub fn upgrade() {
    unhashed::put(UPGRADES, &(unhashed::get_or_default::<u32>(UPGRADES) + 1));
}

frame_support::construct_runtime! {
    pub enum Runtime {
        System: frame_system = 0,
        Balances: pallet_balances = 5,
        TransactionPayment: pallet_transaction_payment = 6,
        SubtensorModule: subtensor = 7,
        Commitments: commitments = 18,
    }
}

#[derive_impl(frame_system::config_preludes::SolochainDefaultConfig)]
impl frame_system::Config for Runtime {
    type AccountData = pallet_balances::AccountData<Balance>;
    type Block = Block;
    // The real chain's 2400 would be most of the state, and every block hashes the whole state.
    type BlockHashCount = ConstU32<256>;
    type SS58Prefix = ConstU16<42>;
    type Version = Version;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Runtime {
    type AccountStore = System;
    type Balance = Balance;
    type ExistentialDeposit = ConstU64<500>;
}

/// A transfer costs about as much as on the real chain: 0.0001 TAO.
pub struct Fee;

impl WeightToFee for Fee {
    type Balance = Balance;

    fn weight_to_fee(weight: &Weight) -> Balance {
        weight.ref_time() / 2000
    }
}

#[derive_impl(pallet_transaction_payment::config_preludes::TestDefaultConfig)]
impl pallet_transaction_payment::Config for Runtime {
    type LengthToFee = IdentityFee<Balance>;
    type OnChargeTransaction = FungibleAdapter<Balances, ()>;
    type WeightToFee = Fee;
}

impl subtensor::Config for Runtime {
    type Currency = Balances;
}

impl commitments::Config for Runtime {
    type FieldDeposit = ConstU64<0>;
    type InitialDeposit = ConstU64<0>;
    type MaxFields = data::MaxFields;
    type Subnets = SubtensorModule;
}

impl Subnets<AccountId> for SubtensorModule {
    fn can_commit(netuid: u16, who: &AccountId) -> bool {
        subtensor::Uids::<Runtime>::contains_key(netuid, who)
    }

    fn epoch(netuid: u16, block: u64) -> u64 {
        Self::epoch(netuid, block)
    }
}

sp_api::decl_runtime_apis! {
    /// Copy of `frame_system_rpc_runtime_api::AccountNonceApi`; that crate would be a dependency for these lines.
    pub trait AccountNonceApi<AccountId, Nonce> where AccountId: parity_scale_codec::Codec, Nonce: parity_scale_codec::Codec {
        /// The next nonce of an account.
        fn account_nonce(account: AccountId) -> Nonce;
    }

    /// Copy of `pallet_transaction_payment_rpc_runtime_api::TransactionPaymentApi`, without the parts no client asks for.
    pub trait TransactionPaymentApi<Balance> where Balance: parity_scale_codec::Codec + sp_runtime::traits::MaybeDisplay {
        /// Weight and fee of a transaction.
        fn query_info(uxt: Block::Extrinsic, len: u32) -> RuntimeDispatchInfo<Balance>;
        /// The fee in its parts.
        fn query_fee_details(uxt: Block::Extrinsic, len: u32) -> FeeDetails<Balance>;
    }

    /// Upstream's interface of the same name.
    pub trait NeuronInfoRuntimeApi {
        /// The neurons of a subnet by uid.
        fn get_neurons(netuid: u16) -> Vec<NeuronInfo>;
        /// One neuron.
        fn get_neuron(netuid: u16, uid: u16) -> Option<NeuronInfo>;
        /// The neurons of a subnet by uid, without weights.
        fn get_neurons_lite(netuid: u16) -> Vec<NeuronInfoLite>;
        /// One neuron without weights.
        fn get_neuron_lite(netuid: u16, uid: u16) -> Option<NeuronInfoLite>;
    }

    /// Upstream's interface of the same name, without its economy.
    pub trait SubnetInfoRuntimeApi {
        /// A subnet's settings.
        fn get_subnet_hyperparams(netuid: u16) -> Option<SubnetHyperparams>;
        /// All subnets at once.
        fn get_all_metagraphs() -> Vec<Option<Metagraph>>;
        /// A subnet at once.
        fn get_metagraph(netuid: u16) -> Option<Metagraph>;
        /// A subnet's neurons with their stake.
        fn get_subnet_state(netuid: u16) -> Option<SubnetState>;
        /// Chosen fields of a metagraph, by their place in it.
        fn get_selective_metagraph(netuid: u16, metagraph_indexes: Vec<u16>) -> Option<SelectiveMetagraph>;
    }
}

sp_api::impl_runtime_apis! {
    impl sp_api::Core<Block> for Runtime {
        fn version() -> RuntimeVersion {
            Version::get()
        }

        fn execute_block(block: <Block as BlockT>::LazyBlock) {
            Executive::execute_block(block);
        }

        fn initialize_block(header: &<Block as BlockT>::Header) -> ExtrinsicInclusionMode {
            Executive::initialize_block(header)
        }
    }

    impl sp_api::Metadata<Block> for Runtime {
        fn metadata() -> OpaqueMetadata {
            OpaqueMetadata::new(Runtime::metadata().into())
        }

        fn metadata_at_version(version: u32) -> Option<OpaqueMetadata> {
            match version {
                15 => Some(OpaqueMetadata::new(metadata_v15().encode())),
                _ => Runtime::metadata_at_version(version),
            }
        }

        fn metadata_versions() -> Vec<u32> {
            Runtime::metadata_versions()
        }
    }

    impl self::AccountNonceApi<Block, AccountId, u32> for Runtime {
        fn account_nonce(account: AccountId) -> u32 {
            System::account_nonce(account)
        }
    }

    impl self::TransactionPaymentApi<Block, Balance> for Runtime {
        fn query_info(uxt: <Block as BlockT>::Extrinsic, len: u32) -> RuntimeDispatchInfo<Balance> {
            TransactionPayment::query_info(uxt, len)
        }

        fn query_fee_details(uxt: <Block as BlockT>::Extrinsic, len: u32) -> FeeDetails<Balance> {
            TransactionPayment::query_fee_details(uxt, len)
        }
    }

    impl self::NeuronInfoRuntimeApi<Block> for Runtime {
        fn get_neurons(netuid: u16) -> Vec<NeuronInfo> {
            info::neurons_lite(netuid).into_iter().map(Into::into).collect()
        }

        fn get_neuron(netuid: u16, uid: u16) -> Option<NeuronInfo> {
            info::neuron_lite(netuid, uid).map(Into::into)
        }

        fn get_neurons_lite(netuid: u16) -> Vec<NeuronInfoLite> {
            info::neurons_lite(netuid)
        }

        fn get_neuron_lite(netuid: u16, uid: u16) -> Option<NeuronInfoLite> {
            info::neuron_lite(netuid, uid)
        }
    }

    impl self::SubnetInfoRuntimeApi<Block> for Runtime {
        fn get_subnet_hyperparams(netuid: u16) -> Option<SubnetHyperparams> {
            info::metagraph(netuid).map(Into::into)
        }

        fn get_all_metagraphs() -> Vec<Option<Metagraph>> {
            info::metagraphs()
        }

        fn get_metagraph(netuid: u16) -> Option<Metagraph> {
            info::metagraph(netuid)
        }

        fn get_subnet_state(netuid: u16) -> Option<SubnetState> {
            info::metagraph(netuid).map(Into::into)
        }

        fn get_selective_metagraph(netuid: u16, metagraph_indexes: Vec<u16>) -> Option<SelectiveMetagraph> {
            info::selective_metagraph(netuid, &metagraph_indexes)
        }
    }
}

/// The metadata with its types numbered in the real chain's order: pallets before extrinsic. Newer FRAME has them the other way
/// round, but Python's SDK takes the numbers of version 14 and looks them up in version 15, and knows accounts by number 0.
fn metadata_v15() -> RuntimeMetadataPrefixed {
    let ir = Runtime::metadata_ir();
    let mut registry = Registry::new();
    let pallets = registry.map_into_portable(ir.pallets.into_iter().map(v15::PalletMetadata::from));
    let extrinsic = v15::ExtrinsicMetadata::from(ir.extrinsic).into_portable(&mut registry);
    let ty = registry.register_type(&ir.ty);
    let apis = registry.map_into_portable(ir.apis.into_iter().map(v15::RuntimeApiMetadata::from));
    let outer_enums = v15::OuterEnums::from(ir.outer_enums).into_portable(&mut registry);
    let custom = v15::CustomMetadata { map: Default::default() };
    let types = registry.into();
    v15::RuntimeMetadataV15 { types, pallets, extrinsic, ty, apis, outer_enums, custom }.into()
}

/// Answers a runtime interface call with SCALE-encoded arguments; `None` for a name that does not exist.
///
/// Panics on arguments that do not decode, as the generated code does: the caller must catch it.
pub fn dispatch(method: &str, arguments: &[u8]) -> Option<Vec<u8>> {
    api::dispatch(method, arguments)
}
