//! The `SubtensorModule` pallet: what a miner meets of subtensor's `pallets/subtensor` (registration, axons, look-ups).

pub use pallet::*;

/// The pallet as FRAME wants it: one inline module.
#[frame_support::pallet]
#[expect(clippy::too_many_arguments, reason = "the arguments of `serve_axon` are the wire format")]
pub mod pallet {
    use frame_support::pallet_prelude::*;
    use frame_support::traits::fungible::{Inspect, Mutate};
    use frame_support::traits::tokens::{Fortitude, Precision, Preservation};
    use frame_support::traits::{ConstU16, ConstU64};
    use frame_system::pallet_prelude::*;
    use sp_runtime::SaturatedConversion;

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

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A hotkey got a uid: subnet, uid, hotkey.
        NeuronRegistered(u16, u16, T::AccountId),
        /// A hotkey announced its axon: subnet, hotkey.
        AxonServed(u16, T::AccountId),
    }

    /// Why a call fails.
    #[pallet::error]
    #[derive(PartialEq, Eq)]
    pub enum Error<T> {
        /// There is no such subnet.
        SubnetNotExists,
        /// The subnet takes no registrations.
        SubNetRegistrationDisabled,
        /// The hotkey already has a uid on the subnet.
        HotKeyAlreadyRegisteredInSubNet,
        /// The coldkey cannot pay the burn.
        NotEnoughBalanceToStake,
        /// The hotkey belongs to another coldkey.
        NonAssociatedColdKey,
        /// Every uid of the subnet is taken; the local chain prunes nobody.
        NoNeuronIdAvailable,
        /// The hotkey is not registered on the subnet.
        HotKeyNotRegisteredInNetwork,
        /// The type is neither 4 nor 6.
        InvalidIpType,
        /// Loopback or broadcast.
        InvalidIpAddress,
        /// The axon was announced too recently.
        ServingRateLimitExceeded,
        /// Port 0.
        InvalidPort,
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
    pub type NetworkRegistrationAllowed<T: Config> = StorageMap<_, Identity, u16, bool, ValueQuery>;

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

    /// Incentive by uid, in 65535ths. Nobody earns on the local chain: zeros.
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
                NetworksAdded::<T>::insert(netuid, true);
                NetworkRegistrationAllowed::<T>::insert(netuid, true);
                Tempo::<T>::insert(netuid, Tempo::<T>::get(netuid));
                Burn::<T>::insert(netuid, Burn::<T>::get(netuid));
                ServingRateLimit::<T>::insert(netuid, self.serving_rate_limit);
                Pallet::<T>::append_neuron(*netuid, 0, owner, owner);
                ValidatorPermit::<T>::insert(netuid, vec![true]);
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
            let uid = Self::check_registration(&coldkey, netuid, &hotkey)?;
            let burn = Burn::<T>::get(netuid);
            T::Currency::burn_from(&coldkey, burn, Preservation::Preserve, Precision::Exact, Fortitude::Polite)?;
            Self::append_neuron(netuid, uid, &hotkey, &coldkey);
            Self::deposit_event(Event::NeuronRegistered(netuid, uid, hotkey));
            Ok(())
        }
    }

    impl<T: Config> Pallet<T> {
        /// Upstream's `validate_serve_axon`: registered, type, address, rate, port, in this order.
        pub fn check_axon(
            hotkey: &T::AccountId,
            netuid: u16,
            ip: u128,
            ip_type: u8,
            port: u16,
        ) -> Result<(), Error<T>> {
            ensure!(Uids::<T>::contains_key(netuid, hotkey), Error::<T>::HotKeyNotRegisteredInNetwork);
            ensure!(matches!(ip_type, 4 | 6), Error::<T>::InvalidIpType);
            ensure!(is_public_enough(ip_type, ip), Error::<T>::InvalidIpAddress);
            let last = Axons::<T>::get(netuid, hotkey).map_or(0, |axon| axon.block);
            let waited = Self::now().saturating_sub(last);
            ensure!(last == 0 || waited >= ServingRateLimit::<T>::get(netuid), Error::<T>::ServingRateLimitExceeded);
            ensure!(port != 0, Error::<T>::InvalidPort);
            Ok(())
        }

        /// Upstream's `get_epoch_index`.
        pub fn epoch(netuid: u16, block: u64) -> u64 {
            (block + u64::from(netuid) + 1) / (u64::from(Tempo::<T>::get(netuid)) + 1)
        }

        fn now() -> u64 {
            frame_system::Pallet::<T>::block_number().saturated_into()
        }

        /// The uid the hotkey would get.
        fn check_registration(coldkey: &T::AccountId, netuid: u16, hotkey: &T::AccountId) -> Result<u16, Error<T>> {
            ensure!(NetworksAdded::<T>::get(netuid), Error::<T>::SubnetNotExists);
            ensure!(NetworkRegistrationAllowed::<T>::get(netuid), Error::<T>::SubNetRegistrationDisabled);
            ensure!(!Uids::<T>::contains_key(netuid, hotkey), Error::<T>::HotKeyAlreadyRegisteredInSubNet);
            let known = Owner::<T>::contains_key(hotkey);
            ensure!(!known || Owner::<T>::get(hotkey) == *coldkey, Error::<T>::NonAssociatedColdKey);
            let free = T::Currency::reducible_balance(coldkey, Preservation::Preserve, Fortitude::Polite);
            ensure!(free >= Burn::<T>::get(netuid), Error::<T>::NotEnoughBalanceToStake);
            let uid = SubnetworkN::<T>::get(netuid);
            ensure!(uid < MaxAllowedUids::<T>::get(netuid), Error::<T>::NoNeuronIdAvailable);
            Ok(uid)
        }

        /// Writes every look-up of a new neuron; upstream's `append_neuron` and `create_account_if_non_existent`.
        fn append_neuron(netuid: u16, uid: u16, hotkey: &T::AccountId, coldkey: &T::AccountId) {
            if !Owner::<T>::contains_key(hotkey) {
                Owner::<T>::insert(hotkey, coldkey);
                OwnedHotkeys::<T>::append(coldkey, hotkey);
            }
            SubnetworkN::<T>::insert(netuid, uid + 1);
            Uids::<T>::insert(netuid, hotkey, uid);
            Keys::<T>::insert(netuid, uid, hotkey);
            IsNetworkMember::<T>::insert(hotkey, netuid, true);
            BlockAtRegistration::<T>::insert(netuid, uid, Self::now());
            Incentive::<T>::append(netuid, 0);
            ValidatorPermit::<T>::append(netuid, false);
            Active::<T>::append(netuid, true);
        }
    }

    /// Upstream's `is_valid_ip_address` with zero allowed: no loopback, no broadcast, no over-long IPv4.
    fn is_public_enough(ip_type: u8, ip: u128) -> bool {
        match ip_type {
            4 => ip < u128::from(u32::MAX) && ip != 0x7f00_0001,
            _ => ip != u128::MAX && ip != 1,
        }
    }
}
