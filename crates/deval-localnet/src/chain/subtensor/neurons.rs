//! How neurons come, are replaced, and announce themselves: the pallet's code outside its macro.

use frame_support::pallet_prelude::*;
use frame_support::traits::fungible::{Inspect, Mutate};
use frame_support::traits::tokens::{Fortitude, Precision, Preservation};
use sp_runtime::SaturatedConversion;

use super::pallet::*;

/// Writes one value per uid: at the end for a new uid, else in place.
macro_rules! set_by_uid {
    ($netuid:expr, $uid:expr, $($entry:ident = $value:expr),*) => {
        $($entry::<T>::mutate($netuid, |values| {
            let place = usize::from($uid);
            values.resize(values.len().max(place + 1), Default::default());
            values[place] = $value;
        });)*
    };
}

impl<T: Config> Pallet<T> {
    /// Upstream's `validate_serve_axon`: registered, type, address, rate, port, in this order.
    pub fn check_axon(hotkey: &T::AccountId, netuid: u16, ip: u128, ip_type: u8, port: u16) -> Result<(), Error<T>> {
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

    /// The block being built.
    pub fn now() -> u64 {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    /// Starts a subnet with its owner's hotkey as uid 0, which is its own coldkey and may validate.
    pub fn add_subnet(netuid: u16, owner: &T::AccountId) {
        NetworksAdded::<T>::insert(netuid, true);
        NetworkRegisteredAt::<T>::insert(netuid, Self::now());
        Tempo::<T>::insert(netuid, Tempo::<T>::get(netuid));
        Burn::<T>::insert(netuid, Burn::<T>::get(netuid));
        // A test registers many in a few blocks; the real chain's 2 can be set.
        TargetRegistrationsPerInterval::<T>::insert(netuid, 100);
        SubnetOwner::<T>::insert(netuid, owner);
        SubnetOwnerHotkey::<T>::insert(netuid, owner);
        Self::add_neuron(netuid, owner, owner);
        ValidatorPermit::<T>::insert(netuid, vec![true]);
    }

    /// Upstream's `do_burned_registration`: checks, payment, uid, event.
    pub(super) fn register(coldkey: &T::AccountId, netuid: u16, hotkey: T::AccountId) -> DispatchResult {
        Self::check_registration(coldkey, netuid, &hotkey)?;
        let burn = Burn::<T>::get(netuid);
        T::Currency::burn_from(coldkey, burn, Preservation::Preserve, Precision::Exact, Fortitude::Polite)?;
        let uid = Self::place_for(netuid)?;
        Self::write_neuron(netuid, uid, &hotkey, coldkey);
        RegistrationsThisBlock::<T>::mutate(netuid, |count| *count += 1);
        RegistrationsThisInterval::<T>::mutate(netuid, |count| *count += 1);
        Self::deposit_event(Event::NeuronRegistered(netuid, uid, hotkey));
        Ok(())
    }

    fn check_registration(coldkey: &T::AccountId, netuid: u16, hotkey: &T::AccountId) -> Result<(), Error<T>> {
        ensure!(NetworksAdded::<T>::get(netuid), Error::<T>::SubnetNotExists);
        ensure!(NetworkRegistrationAllowed::<T>::get(netuid), Error::<T>::SubNetRegistrationDisabled);
        let (block, most) = (RegistrationsThisBlock::<T>::get(netuid), MaxRegistrationsPerBlock::<T>::get(netuid));
        ensure!(block < most, Error::<T>::TooManyRegistrationsThisBlock);
        let most = TargetRegistrationsPerInterval::<T>::get(netuid).saturating_mul(3);
        ensure!(RegistrationsThisInterval::<T>::get(netuid) < most, Error::<T>::TooManyRegistrationsThisInterval);
        ensure!(!Uids::<T>::contains_key(netuid, hotkey), Error::<T>::HotKeyAlreadyRegisteredInSubNet);
        let free = T::Currency::reducible_balance(coldkey, Preservation::Preserve, Fortitude::Polite);
        ensure!(free >= Burn::<T>::get(netuid), Error::<T>::NotEnoughBalanceToStake);
        let known = Owner::<T>::contains_key(hotkey);
        ensure!(!known || Owner::<T>::get(hotkey) == *coldkey, Error::<T>::NonAssociatedColdKey);
        Ok(())
    }

    /// Gives a hotkey a uid without a payment.
    ///
    /// # Errors
    /// `NoNeuronIdAvailable`.
    pub fn add_neuron(netuid: u16, hotkey: &T::AccountId, coldkey: &T::AccountId) -> Option<u16> {
        let uid = Self::place_for(netuid).ok()?;
        Self::write_neuron(netuid, uid, hotkey, coldkey);
        Some(uid)
    }

    /// The next free uid; on a full subnet that of the neuron that upstream's `get_neuron_to_prune` names: not the owner's, out
    /// of immunity before within, then the lowest emission, then the oldest.
    fn place_for(netuid: u16) -> Result<u16, Error<T>> {
        let count = SubnetworkN::<T>::get(netuid);
        if count < MaxAllowedUids::<T>::get(netuid) {
            return Ok(count);
        }
        let emission = Emission::<T>::get(netuid);
        let (owner, immunity) = (SubnetOwnerHotkey::<T>::get(netuid), ImmunityPeriod::<T>::get(netuid));
        let rank = |uid: &u16| {
            let since = BlockAtRegistration::<T>::get(netuid, uid);
            let immune = Self::now().saturating_sub(since) < u64::from(immunity);
            (immune, emission.get(usize::from(*uid)).copied().unwrap_or(0), since, *uid)
        };
        let others = (0..count).filter(|uid| Keys::<T>::get(netuid, uid) != owner);
        others.min_by_key(rank).ok_or(Error::<T>::NoNeuronIdAvailable)
    }

    /// Writes every look-up of a new neuron and takes those of the one before it away; upstream's `append_neuron`,
    /// `replace_neuron` and `create_account_if_non_existent`.
    fn write_neuron(netuid: u16, uid: u16, hotkey: &T::AccountId, coldkey: &T::AccountId) {
        if uid < SubnetworkN::<T>::get(netuid) {
            let old = Keys::<T>::get(netuid, uid);
            Uids::<T>::remove(netuid, &old);
            IsNetworkMember::<T>::remove(&old, netuid);
            Axons::<T>::remove(netuid, &old);
            Prometheus::<T>::remove(netuid, &old);
        } else {
            SubnetworkN::<T>::insert(netuid, uid + 1);
        }
        if !Owner::<T>::contains_key(hotkey) {
            Owner::<T>::insert(hotkey, coldkey);
            OwnedHotkeys::<T>::append(coldkey, hotkey);
        }
        Uids::<T>::insert(netuid, hotkey, uid);
        Keys::<T>::insert(netuid, uid, hotkey);
        IsNetworkMember::<T>::insert(hotkey, netuid, true);
        BlockAtRegistration::<T>::insert(netuid, uid, Self::now());
        set_by_uid!(netuid, uid, LastUpdate = Self::now(), Active = true, ValidatorPermit = false, Emission = 0);
        set_by_uid!(netuid, uid, Incentive = 0, Consensus = 0, Trust = 0, Rank = 0, Dividends = 0);
        set_by_uid!(netuid, uid, ValidatorTrust = 0, PruningScores = 0);
    }

    /// At every block's start: its count begins anew, and the interval's when that is over.
    pub(super) fn reset_registration_counts() {
        let now = Self::now();
        for netuid in NetworksAdded::<T>::iter_keys() {
            RegistrationsThisBlock::<T>::remove(netuid);
            let begun = LastAdjustmentBlock::<T>::get(netuid);
            if now.saturating_sub(begun) >= u64::from(AdjustmentInterval::<T>::get(netuid)) {
                RegistrationsThisInterval::<T>::remove(netuid);
                LastAdjustmentBlock::<T>::insert(netuid, now);
            }
        }
    }
}

/// Upstream's `is_valid_ip_address` with zero allowed: no loopback, no broadcast, no over-long IPv4.
fn is_public_enough(ip_type: u8, ip: u128) -> bool {
    match ip_type {
        4 => ip < u128::from(u32::MAX) && ip != 0x7f00_0001,
        _ => ip != u128::MAX && ip != 1,
    }
}
