//! The `Commitments` pallet: subtensor's `pallets/commitments/src/lib.rs`, without deposits and reveals.

pub use pallet::*;

/// The pallet as FRAME wants it: one inline module.
#[frame_support::pallet]
pub mod pallet {
    use frame_support::pallet_prelude::*;
    use frame_system::pallet_prelude::*;
    use sp_runtime::SaturatedConversion;

    use crate::chain::data::{CommitmentInfo, Data, Registration, UsageTracker};

    /// What a commitment costs at least, in bytes of quota.
    const MIN_SPACE: u64 = 100;

    /// The pallet.
    #[pallet::pallet]
    #[pallet::without_storage_info]
    pub struct Pallet<T>(_);

    /// What the pallet asks of the runtime.
    #[pallet::config]
    pub trait Config: frame_system::Config<RuntimeEvent: From<Event<Self>>> {
        /// The subnets.
        type Subnets: Subnets<Self::AccountId>;

        /// Fields a commitment may have.
        #[pallet::constant]
        type MaxFields: Get<u32>;

        /// Rao held per commitment.
        #[pallet::constant]
        type InitialDeposit: Get<u64>;

        /// Rao held per field.
        #[pallet::constant]
        type FieldDeposit: Get<u64>;
    }

    /// What the pallet must know of the subnets; upstream's `CanCommit` and `GetCommitments` tempo interface.
    pub trait Subnets<AccountId> {
        /// Whether the hotkey is registered on the subnet.
        fn can_commit(netuid: u16, who: &AccountId) -> bool;
        /// The subnet's epoch at a block.
        fn epoch(netuid: u16, block: u64) -> u64;
    }

    /// What happened.
    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A commitment was set.
        Commitment {
            /// The subnet.
            netuid: u16,
            /// The hotkey.
            who: T::AccountId,
        },
    }

    /// Why a commitment fails inside its block.
    #[pallet::error]
    pub enum Error<T> {
        /// More fields than `MaxFields`.
        TooManyFieldsInCommitmentInfo,
        /// The hotkey is not registered on the subnet, or there is no such subnet.
        AccountNotAllowedCommit,
        /// The epoch's quota is used up.
        SpaceLimitExceeded,
    }

    /// Bytes a hotkey may commit per epoch.
    #[pallet::storage]
    pub type MaxSpace<T> = StorageValue<_, u32, ValueQuery, ConstU32<3100>>;

    /// The current commitment of a hotkey.
    #[pallet::storage]
    pub type CommitmentOf<T: Config> =
        StorageDoubleMap<_, Identity, u16, Twox64Concat, T::AccountId, Registration, OptionQuery>;

    /// The block of the last commitment.
    #[pallet::storage]
    pub type LastCommitment<T: Config> =
        StorageDoubleMap<_, Identity, u16, Twox64Concat, T::AccountId, BlockNumberFor<T>, OptionQuery>;

    /// The quota used in the current epoch.
    #[pallet::storage]
    pub type UsedSpaceOf<T: Config> =
        StorageDoubleMap<_, Identity, u16, Twox64Concat, T::AccountId, UsageTracker, OptionQuery>;

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Sets the commitment of the signing hotkey; free.
        #[pallet::call_index(0)]
        #[pallet::weight((Weight::from_parts(33_480_000, 0), DispatchClass::Operational, Pays::No))]
        pub fn set_commitment(origin: OriginFor<T>, netuid: u16, info: Box<CommitmentInfo>) -> DispatchResult {
            let who = ensure_signed(origin)?;
            ensure!(T::Subnets::can_commit(netuid, &who), Error::<T>::AccountNotAllowedCommit);
            let number = frame_system::Pallet::<T>::block_number();
            let block: u32 = number.saturated_into();
            let usage = Self::charge(netuid, &who, block, &info)?;
            UsedSpaceOf::<T>::insert(netuid, &who, usage);
            CommitmentOf::<T>::insert(netuid, &who, Registration { deposit: 0, block, info: *info });
            LastCommitment::<T>::insert(netuid, &who, number);
            Self::deposit_event(Event::Commitment { netuid, who });
            Ok(())
        }
    }

    impl<T: Config> Pallet<T> {
        /// The usage after this commitment, or `SpaceLimitExceeded`.
        fn charge(
            netuid: u16,
            who: &T::AccountId,
            block: u32,
            info: &CommitmentInfo,
        ) -> Result<UsageTracker, Error<T>> {
            let mut usage = UsedSpaceOf::<T>::get(netuid, who).unwrap_or_default();
            let epoch = T::Subnets::epoch(netuid, block.into());
            if usage.last_epoch != epoch {
                usage = UsageTracker { last_epoch: epoch, used_space: 0 };
            }
            let space: u64 = info.fields.iter().map(Data::space).sum();
            usage.used_space += space.max(MIN_SPACE);
            ensure!(usage.used_space <= MaxSpace::<T>::get().into(), Error::<T>::SpaceLimitExceeded);
            Ok(usage)
        }
    }
}
