//! The `SubtensorModule` pallet: what a miner meets of subtensor's `pallets/subtensor` (registration, axons, look-ups).
//!
//! Calls, entries, hashers, events and errors have the indices and shapes of spec 393; `register_limit` is newer and has those
//! of the runtimes that know it.

pub use pallet::*;

mod neurons;

/// The pallet as FRAME wants it: one inline module.
#[frame_support::pallet]
#[expect(clippy::too_many_arguments, reason = "the arguments of `serve_axon` are the wire format")]
pub mod pallet {
    use frame_support::pallet_prelude::*;
    use frame_support::traits::fungible::{Inspect, Mutate};
    use frame_support::traits::{ConstBool, ConstU16, ConstU64};
    use frame_system::pallet_prelude::*;

    /// The pallet.
    #[pallet::pallet]
    #[pallet::without_storage_info]
    pub struct Pallet<T>(_);

    /// What the pallet asks of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config<RuntimeEvent: From<Event<Self>>> {
        /// What registrations are paid in.
        type Currency: Mutate<Self::AccountId> + Inspect<Self::AccountId, Balance = u64>;
    }

    /// Where a miner can be asked; upstream's `AxonInfo`.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct AxonInfo {
        /// Block of the announcement.
        pub block: u64,
        /// Version of the client, `major·10⁶ + minor·10³ + patch`.
        pub version: u32,
        /// The address as a number.
        pub ip: u128,
        /// The port.
        pub port: u16,
        /// 4 or 6.
        pub ip_type: u8,
        /// The protocol; 4 by convention.
        pub protocol: u8,
        /// Unused.
        pub placeholder1: u8,
        /// Unused.
        pub placeholder2: u8,
    }

    /// Where a neuron's metrics can be read; upstream's `PrometheusInfo`.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct PrometheusInfo {
        /// Block of the announcement.
        pub block: u64,
        /// Version of the client.
        pub version: u32,
        /// The address as a number.
        pub ip: u128,
        /// The port.
        pub port: u16,
        /// 4 or 6.
        pub ip_type: u8,
    }

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A hotkey got a uid: subnet, uid, hotkey.
        #[codec(index = 6)]
        NeuronRegistered(u16, u16, T::AccountId),
        /// A hotkey announced its axon: subnet, hotkey.
        #[codec(index = 28)]
        AxonServed(u16, T::AccountId),
    }

    /// Why a call fails.
    #[pallet::error]
    #[derive(PartialEq, Eq)]
    pub enum Error<T> {
        /// The type is neither 4 nor 6.
        #[codec(index = 1)]
        InvalidIpType,
        /// Loopback or broadcast.
        #[codec(index = 2)]
        InvalidIpAddress,
        /// Port 0.
        #[codec(index = 3)]
        InvalidPort,
        /// The hotkey is not registered on the subnet.
        #[codec(index = 6)]
        HotKeyNotRegisteredInNetwork,
        /// The hotkey belongs to another coldkey.
        #[codec(index = 7)]
        NonAssociatedColdKey,
        /// The coldkey cannot pay the burn.
        #[codec(index = 12)]
        NotEnoughBalanceToStake,
        /// The block has its registrations.
        #[codec(index = 20)]
        TooManyRegistrationsThisBlock,
        /// The hotkey already has a uid on the subnet.
        #[codec(index = 21)]
        HotKeyAlreadyRegisteredInSubNet,
        /// The axon was announced too recently.
        #[codec(index = 30)]
        ServingRateLimitExceeded,
        /// The subnet takes no registrations.
        #[codec(index = 36)]
        SubNetRegistrationDisabled,
        /// The adjustment interval has its registrations, three times the target.
        #[codec(index = 37)]
        TooManyRegistrationsThisInterval,
        /// No uid is free and none may be pruned.
        #[codec(index = 47)]
        NoNeuronIdAvailable,
        /// There is no such subnet.
        #[codec(index = 75)]
        SubnetNotExists,
        /// The burn is above the limit; index of the runtimes that know `register_limit`.
        #[codec(index = 134)]
        RegistrationPriceLimitExceeded,
    }

    /// Hotkey to uid.
    #[pallet::storage]
    pub type Uids<T: Config> = StorageDoubleMap<_, Identity, u16, Blake2_128Concat, T::AccountId, u16, OptionQuery>;

    /// Uid to hotkey. Upstream answers the zero account where there is none.
    #[pallet::storage]
    pub type Keys<T: Config> =
        StorageDoubleMap<_, Identity, u16, Identity, u16, T::AccountId, ValueQuery, NoAccount<T>>;

    /// Hotkey to coldkey. Upstream answers the zero account where there is none.
    #[pallet::storage]
    pub type Owner<T: Config> = StorageMap<_, Blake2_128Concat, T::AccountId, T::AccountId, ValueQuery, NoAccount<T>>;

    /// Coldkey to hotkeys.
    #[pallet::storage]
    pub type OwnedHotkeys<T: Config> = StorageMap<_, Blake2_128Concat, T::AccountId, Vec<T::AccountId>, ValueQuery>;

    /// Whether a hotkey is registered on a subnet.
    #[pallet::storage]
    pub type IsNetworkMember<T: Config> =
        StorageDoubleMap<_, Blake2_128Concat, T::AccountId, Identity, u16, bool, ValueQuery>;

    /// Block of a registration.
    #[pallet::storage]
    pub type BlockAtRegistration<T: Config> = StorageDoubleMap<_, Identity, u16, Identity, u16, u64, ValueQuery>;

    /// Neurons on a subnet.
    #[pallet::storage]
    pub type SubnetworkN<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery>;

    /// Whether a subnet exists.
    #[pallet::storage]
    pub type NetworksAdded<T: Config> = StorageMap<_, Identity, u16, bool, ValueQuery>;

    /// Whether a subnet takes registrations.
    #[pallet::storage]
    pub type NetworkRegistrationAllowed<T: Config> = StorageMap<_, Identity, u16, bool, ValueQuery, ConstBool<true>>;

    /// Uids a subnet has.
    #[pallet::storage]
    pub type MaxAllowedUids<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<256>>;

    /// Blocks of an epoch.
    #[pallet::storage]
    pub type Tempo<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<360>>;

    /// What a registration burns, in rao.
    #[pallet::storage]
    pub type Burn<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery, ConstU64<100_000_000>>;

    /// Blocks in which a new neuron is not pruned.
    #[pallet::storage]
    pub type ImmunityPeriod<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<4096>>;

    /// Blocks between two announcements of an axon.
    #[pallet::storage]
    pub type ServingRateLimit<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery, ConstU64<50>>;

    /// The announced axons.
    #[pallet::storage]
    pub type Axons<T: Config> =
        StorageDoubleMap<_, Identity, u16, Blake2_128Concat, T::AccountId, AxonInfo, OptionQuery>;

    /// Where a neuron's metrics can be read; the local chain has no call for it, so it is always empty.
    #[pallet::storage]
    pub type Prometheus<T: Config> =
        StorageDoubleMap<_, Identity, u16, Blake2_128Concat, T::AccountId, PrometheusInfo, OptionQuery>;

    /// Block of the last weights by uid; the registration before there are any.
    #[pallet::storage]
    pub type LastUpdate<T: Config> = StorageMap<_, Identity, u16, Vec<u64>, ValueQuery>;

    /// Rao of the last epoch by uid.
    #[pallet::storage]
    pub type Emission<T: Config> = StorageMap<_, Identity, u16, Vec<u64>, ValueQuery>;

    /// Rank by uid, in 65535ths.
    #[pallet::storage]
    pub type Rank<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Trust by uid, in 65535ths.
    #[pallet::storage]
    pub type Trust<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Consensus by uid, in 65535ths.
    #[pallet::storage]
    pub type Consensus<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Validator trust by uid, in 65535ths.
    #[pallet::storage]
    pub type ValidatorTrust<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Dividends by uid, in 65535ths.
    #[pallet::storage]
    pub type Dividends<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Pruning score by uid, in 65535ths.
    #[pallet::storage]
    pub type PruningScores<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Stake of a hotkey on a subnet, in rao of its alpha.
    #[pallet::storage]
    pub type TotalHotkeyAlpha<T: Config> =
        StorageDoubleMap<_, Blake2_128Concat, T::AccountId, Identity, u16, u64, ValueQuery>;

    /// Block of a subnet's start.
    #[pallet::storage]
    pub type NetworkRegisteredAt<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery>;

    /// Registrations of the current block.
    #[pallet::storage]
    pub type RegistrationsThisBlock<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery>;

    /// Registrations of the current adjustment interval.
    #[pallet::storage]
    pub type RegistrationsThisInterval<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery>;

    /// Registrations a block may have.
    #[pallet::storage]
    pub type MaxRegistrationsPerBlock<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<1>>;

    /// Registrations an interval aims at; three times as many are the limit.
    #[pallet::storage]
    pub type TargetRegistrationsPerInterval<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<2>>;

    /// Blocks of an adjustment interval.
    #[pallet::storage]
    pub type AdjustmentInterval<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<100>>;

    /// Block in which the current interval began.
    #[pallet::storage]
    pub type LastAdjustmentBlock<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery>;

    /// Lowest burn, in rao.
    #[pallet::storage]
    pub type MinBurn<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery, ConstU64<500_000>>;

    /// Highest burn, in rao.
    #[pallet::storage]
    pub type MaxBurn<T: Config> = StorageMap<_, Identity, u16, u64, ValueQuery, ConstU64<100_000_000_000>>;

    /// Blocks after which a validator counts as inactive.
    #[pallet::storage]
    pub type ActivityCutoff<T: Config> = StorageMap<_, Identity, u16, u16, ValueQuery, ConstU16<5000>>;

    /// Coldkey of a subnet's owner.
    #[pallet::storage]
    pub type SubnetOwner<T: Config> = StorageMap<_, Identity, u16, T::AccountId, ValueQuery, NoAccount<T>>;

    /// Hotkey of a subnet's owner.
    #[pallet::storage]
    pub type SubnetOwnerHotkey<T: Config> = StorageMap<_, Identity, u16, T::AccountId, ValueQuery, NoAccount<T>>;

    /// Incentive by uid, in 65535ths. Nobody earns on the local chain by itself.
    #[pallet::storage]
    pub type Incentive<T: Config> = StorageMap<_, Identity, u16, Vec<u16>, ValueQuery>;

    /// Which uids may set weights.
    #[pallet::storage]
    pub type ValidatorPermit<T: Config> = StorageMap<_, Identity, u16, Vec<bool>, ValueQuery>;

    /// Which uids are active.
    #[pallet::storage]
    pub type Active<T: Config> = StorageMap<_, Identity, u16, Vec<bool>, ValueQuery>;

    /// The account of 32 zero bytes.
    pub struct NoAccount<T>(PhantomData<T>);

    impl<T: Config> Get<T::AccountId> for NoAccount<T> {
        fn get() -> T::AccountId {
            T::AccountId::decode(&mut sp_runtime::traits::TrailingZeroInput::zeroes())
                .expect("an account decodes from zero bytes")
        }
    }

    /// The subnets at block 0.
    #[pallet::genesis_config]
    #[derive(frame_support::DefaultNoBound)]
    pub struct GenesisConfig<T: Config> {
        /// Subnets with the hotkey of uid 0, which is its own coldkey and may validate.
        pub networks: Vec<(u16, T::AccountId)>,
        /// Blocks between two announcements of an axon.
        pub serving_rate_limit: u64,
    }

    #[pallet::genesis_build]
    impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
        fn build(&self) {
            for (netuid, owner) in &self.networks {
                Pallet::<T>::add_subnet(*netuid, owner);
                ServingRateLimit::<T>::insert(netuid, self.serving_rate_limit);
            }
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Announces the signing hotkey's axon; free.
        #[pallet::call_index(4)]
        #[pallet::weight((Weight::from_parts(33_010_000, 0), DispatchClass::Normal, Pays::No))]
        pub fn serve_axon(
            origin: OriginFor<T>,
            netuid: u16,
            version: u32,
            ip: u128,
            port: u16,
            ip_type: u8,
            protocol: u8,
            placeholder1: u8,
            placeholder2: u8,
        ) -> DispatchResult {
            let hotkey = ensure_signed(origin)?;
            Self::check_axon(&hotkey, netuid, ip, ip_type, port)?;
            let block = Self::now();
            let axon = AxonInfo { block, version, ip, port, ip_type, protocol, placeholder1, placeholder2 };
            Axons::<T>::insert(netuid, &hotkey, axon);
            Self::deposit_event(Event::AxonServed(netuid, hotkey));
            Ok(())
        }

        /// Registers a hotkey on a subnet for the burn, paid by the signing coldkey.
        #[pallet::call_index(7)]
        #[pallet::weight((Weight::from_parts(354_200_000, 0), DispatchClass::Normal, Pays::Yes))]
        pub fn burned_register(origin: OriginFor<T>, netuid: u16, hotkey: T::AccountId) -> DispatchResult {
            let coldkey = ensure_signed(origin)?;
            Self::register(&coldkey, netuid, hotkey)
        }

        /// As `burned_register`, unless the burn is above `limit_price` (rao).
        #[pallet::call_index(134)]
        #[pallet::weight((Weight::from_parts(354_200_000, 0), DispatchClass::Normal, Pays::Yes))]
        pub fn register_limit(
            origin: OriginFor<T>,
            netuid: u16,
            hotkey: T::AccountId,
            limit_price: u64,
        ) -> DispatchResult {
            let coldkey = ensure_signed(origin)?;
            ensure!(NetworksAdded::<T>::get(netuid), Error::<T>::SubnetNotExists);
            ensure!(Burn::<T>::get(netuid) <= limit_price, Error::<T>::RegistrationPriceLimitExceeded);
            Self::register(&coldkey, netuid, hotkey)
        }
    }

    #[pallet::hooks]
    impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
        fn on_initialize(_block: BlockNumberFor<T>) -> Weight {
            Self::reset_registration_counts();
            Weight::zero()
        }
    }
}
