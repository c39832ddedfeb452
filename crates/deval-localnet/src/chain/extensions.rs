//! The transaction extensions that subtensor has of its own.

use frame_support::dispatch::DispatchInfo;
use frame_support::pallet_prelude::*;
use sp_runtime::impl_tx_ext_default;
use sp_runtime::traits::{AsSystemOriginSigner, DispatchInfoOf, TransactionExtension, ValidateResult};

use crate::chain::runtime::{AccountId, Runtime, RuntimeCall, RuntimeOrigin, SubtensorModule, System};
use crate::chain::subtensor::{Call, Error};

/// Nonce check that lets accounts without funds send free calls: hotkeys have none, and FRAME's own check would refuse them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct CheckNonce(#[codec(compact)] pub u32);

impl TransactionExtension<RuntimeCall> for CheckNonce {
    const IDENTIFIER: &'static str = "CheckNonce";
    type Implicit = ();
    type Val = Option<AccountId>;
    type Pre = ();

    fn validate(
        &self,
        origin: RuntimeOrigin,
        _call: &RuntimeCall,
        info: &DispatchInfoOf<RuntimeCall>,
        _len: usize,
        (): (),
        _implication: &impl Encode,
        _source: TransactionSource,
    ) -> ValidateResult<Self::Val, RuntimeCall> {
        let Some(who) = origin.as_system_origin_signer().cloned() else {
            return Ok((ValidTransaction::default(), None, origin));
        };
        let validity = validate_nonce(&who, self.0, info)?;
        Ok((validity, Some(who), origin))
    }

    fn prepare(
        self,
        who: Self::Val,
        _origin: &RuntimeOrigin,
        _call: &RuntimeCall,
        _info: &DispatchInfoOf<RuntimeCall>,
        _len: usize,
    ) -> Result<(), TransactionValidityError> {
        who.map_or(Ok(()), |who| frame_system::CheckNonce::<Runtime>::prepare_nonce_for_account(&who, self.0))
    }

    impl_tx_ext_default!(RuntimeCall; weight);
}

fn validate_nonce(who: &AccountId, nonce: u32, info: &DispatchInfo) -> TransactionValidity {
    let account = System::account(who);
    let unfunded = account.providers == 0 && account.sufficients == 0;
    if unfunded && info.pays_fee == Pays::Yes {
        return Err(InvalidTransaction::Payment.into());
    }
    if nonce < account.nonce {
        return Err(InvalidTransaction::Stale.into());
    }
    let tag = ValidTransaction::with_tag_prefix("CheckNonce").and_provides((who, nonce));
    if account.nonce < nonce { tag.and_requires((who, nonce - 1)) } else { tag }.build()
}

/// Refuses `serve_axon` calls in the pool that would fail in a block; upstream's `SubtensorTransactionExtension`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct SubtensorTransactionExtension;

impl TransactionExtension<RuntimeCall> for SubtensorTransactionExtension {
    const IDENTIFIER: &'static str = "SubtensorTransactionExtension";
    type Implicit = ();
    type Val = ();
    type Pre = ();

    fn validate(
        &self,
        origin: RuntimeOrigin,
        call: &RuntimeCall,
        _info: &DispatchInfoOf<RuntimeCall>,
        _len: usize,
        (): (),
        _implication: &impl Encode,
        _source: TransactionSource,
    ) -> ValidateResult<Self::Val, RuntimeCall> {
        if let (Some(who), RuntimeCall::SubtensorModule(Call::serve_axon { netuid, ip, ip_type, port, .. })) =
            (origin.as_system_origin_signer(), call)
        {
            SubtensorModule::check_axon(who, *netuid, *ip, *ip_type, *port)
                .map_err(|error| InvalidTransaction::Custom(pool_code(&error)))?;
        }
        Ok((ValidTransaction::default(), (), origin))
    }

    impl_tx_ext_default!(RuntimeCall; weight prepare);
}

/// Extensions that upstream has and that a miner's calls pass: they check nothing here, but are signed for by name.
macro_rules! empty_extensions {
    ($($name:ident: $doc:literal),*) => {
        $(#[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
        pub struct $name;

        impl TransactionExtension<RuntimeCall> for $name {
            const IDENTIFIER: &'static str = stringify!($name);
            type Implicit = ();
            type Val = ();
            type Pre = ();

            impl_tx_ext_default!(RuntimeCall; weight validate prepare);
        })*
    };
}

empty_extensions! {
    SudoTransactionExtension: "Upstream: refuses root's calls of others.",
    CheckShieldedTxValidity: "Upstream: checks encrypted transactions.",
    DrandPriority: "Upstream: puts drand's pulses first."
}

/// Upstream's `CustomTransactionError`.
fn pool_code(error: &Error<Runtime>) -> u8 {
    match error {
        Error::HotKeyNotRegisteredInNetwork => 10,
        Error::InvalidIpAddress => 11,
        Error::ServingRateLimitExceeded => 12,
        Error::InvalidPort => 13,
        _ => 255,
    }
}
