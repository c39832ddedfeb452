//! Calls, keys and values are the real chain's, byte for byte.

use parity_scale_codec::{Decode, DecodeAll, Encode};
use scale_info::TypeDef;
use scale_info::form::PortableForm;
use sp_runtime::traits::ExtrinsicCall;
use subxt::Metadata;
use subxt::metadata::RuntimeApiMethodMetadata;

use super::{MINER, account, open, unhex, vectors};
use crate::chain::commitments::{self, CommitmentOf, LastCommitment, MaxSpace, UsedSpaceOf};
use crate::chain::data::{CommitmentInfo, Data, Registration};
use crate::chain::runtime::{Runtime, RuntimeCall, UncheckedExtrinsic};
use crate::chain::subtensor::{
    self, Axons, BlockAtRegistration, Burn, Incentive, IsNetworkMember, Keys, NetworksAdded,
};
use crate::chain::subtensor::{AxonInfo, Owner, ServingRateLimit, SubnetworkN, Tempo, Uids};

type Variant = scale_info::Variant<PortableForm>;

#[test]
fn set_commitment_calls_are_the_real_ones() {
    for vector in vectors()["set_commitment"].as_array().unwrap() {
        let raw = vector["raw_utf8"].as_str().unwrap().as_bytes().to_vec();
        let info = CommitmentInfo { fields: vec![Data::Raw(raw.try_into().unwrap())].try_into().unwrap() };
        let netuid = vector["netuid"].as_u64().unwrap() as u16;
        let call: RuntimeCall = commitments::Call::set_commitment { netuid, info: Box::new(info) }.into();
        let expected = unhex(vector["call_hex"].as_str().unwrap());
        assert_eq!(call.encode(), expected);
        assert_eq!(RuntimeCall::decode_all(&mut &expected[..]).unwrap(), call);
    }
}

#[test]
fn subtensor_calls_are_the_real_ones() {
    let vectors = vectors();
    let serve = |ip: u128, ip_type| subtensor::Call::serve_axon {
        netuid: 202,
        version: 9_000_001,
        ip,
        port: 8091,
        ip_type,
        protocol: 4,
        placeholder1: 0,
        placeholder2: 0,
    };
    let register = subtensor::Call::burned_register { netuid: 202, hotkey: account(MINER) };
    let six = u128::from("2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap());
    for (call, vector) in [
        (serve(3_405_803_785, 4), &vectors["serve_axon"][0]),
        (serve(six, 6), &vectors["serve_axon"][1]),
        (register, &vectors["burned_register"]),
    ] {
        assert_eq!(RuntimeCall::from(call).encode(), unhex(vector["call_hex"].as_str().unwrap()));
    }
}

#[test]
fn storage_keys_are_the_real_ones() {
    let miner = account(MINER);
    let ours: Vec<Vec<u8>> = vec![
        CommitmentOf::<Runtime>::hashed_key_for(202, &miner),
        CommitmentOf::<Runtime>::hashed_key_for(15, &miner),
        LastCommitment::<Runtime>::hashed_key_for(202, &miner),
        UsedSpaceOf::<Runtime>::hashed_key_for(202, &miner),
        MaxSpace::<Runtime>::hashed_key().to_vec(),
        Uids::<Runtime>::hashed_key_for(202, &miner),
        Keys::<Runtime>::hashed_key_for(202, 1),
        IsNetworkMember::<Runtime>::hashed_key_for(&miner, 202),
        Owner::<Runtime>::hashed_key_for(&miner),
        Axons::<Runtime>::hashed_key_for(202, &miner),
        BlockAtRegistration::<Runtime>::hashed_key_for(202, 1),
        Incentive::<Runtime>::hashed_key_for(202),
        SubnetworkN::<Runtime>::hashed_key_for(202),
        NetworksAdded::<Runtime>::hashed_key_for(202),
        Tempo::<Runtime>::hashed_key_for(202),
        ServingRateLimit::<Runtime>::hashed_key_for(202),
        Burn::<Runtime>::hashed_key_for(202),
        frame_system::Account::<Runtime>::hashed_key_for(&miner),
    ];
    let vectors = vectors();
    let real = vectors["storage_keys"].as_object().unwrap();
    assert_eq!(real.len(), ours.len());
    for ((name, key), ours) in real.iter().zip(ours) {
        assert_eq!(hex::encode(ours), key.as_str().unwrap()[2..], "{name}");
    }
}

#[test]
fn storage_values_are_the_real_ones() {
    let vectors = vectors();
    let bytes = unhex(vectors["commitment_of_value_example"]["value"].as_str().unwrap());
    let fields = vec![Data::Raw(vec![b'x'; 128].try_into().unwrap())].try_into().unwrap();
    let registration = Registration { deposit: 0, block: 11, info: CommitmentInfo { fields } };
    assert_eq!(registration.encode(), bytes);
    assert_eq!(Registration::decode_all(&mut &bytes[..]).unwrap(), registration);

    let bytes = unhex(vectors["axons_value_example"]["value"].as_str().unwrap());
    let axon = AxonInfo::decode_all(&mut &bytes[..]).unwrap();
    assert_eq!((axon.block, axon.version, axon.ip, axon.port), (12, 9_000_001, 3_405_803_785, 8091));
    assert_eq!((axon.ip_type, axon.protocol), (4, 4));
    assert_eq!(axon.encode(), bytes);
}

#[test]
fn a_real_extrinsic_decodes_and_encodes_to_itself() {
    let vectors = vectors();
    let bytes = unhex(vectors["extrinsic_immortal"]["extrinsic"].as_str().unwrap());
    let extrinsic = UncheckedExtrinsic::decode_all(&mut &bytes[..]).unwrap();
    assert_eq!(extrinsic.encode(), bytes);
    let call = unhex(vectors["set_commitment"][8]["call_hex"].as_str().unwrap());
    let payload = unhex(vectors["extrinsic_immortal"]["payload"].as_str().unwrap());
    assert!(payload.starts_with(&extrinsic.call().encode()));
    assert!(payload.starts_with(&call));
}

#[test]
fn every_variant_of_data_comes_back() {
    let mut all: Vec<Data> = (0..=128).map(|n| Data::Raw(vec![7; n].try_into().unwrap())).collect();
    all.extend((130..=133).map(|variant| Data::Digest(variant, [3; 32])));
    all.extend([Data::None, Data::ResetBondsFlag, Data::BigRaw(vec![1; 512].try_into().unwrap())]);
    all.push(Data::TimelockEncrypted { encrypted: vec![9; 1024].try_into().unwrap(), reveal_round: 5 });
    for data in all {
        assert_eq!(Data::decode_all(&mut &data.encode()[..]).unwrap(), data);
    }
    let too_long = [&[136_u8][..], &vec![0_u8; 513].encode()].concat();
    for bad in [&[137][..], &[129, 0], &[131; 20], &too_long] {
        assert!(Data::decode(&mut &*bad).is_err(), "{bad:?}");
    }
}

/// Spec 393; `None`, with a message, where this machine lacks it.
fn real_metadata() -> Option<Metadata> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/chain-metadata/spec393.scale");
    let Ok(bytes) = std::fs::read(path) else {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|need| need == "shared"),
            "DEVAL_TEST_REQUIRE names shared, but there is no metadata"
        );
        eprintln!("skipped: the real chain's metadata is not on this machine");
        return None;
    };
    Some(Metadata::decode_from(&bytes).unwrap())
}

/// Every entry, call, event and error of our two pallets is in the real metadata under the same index, arguments and hashers.
#[test]
fn the_pallets_are_a_part_of_the_real_metadata() {
    let Some(real) = real_metadata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ours = Metadata::decode_from(&open(&dir).read(|| Runtime::metadata_at_version(15)).unwrap()).unwrap();
    for name in ["SubtensorModule", "Commitments"] {
        compare(&ours, &real, name);
    }
}

fn compare(ours: &Metadata, real: &Metadata, name: &str) {
    let (our_pallet, real_pallet) = (ours.pallet_by_name(name).unwrap(), real.pallet_by_name(name).unwrap());
    assert_eq!(our_pallet.call_index(), real_pallet.call_index());
    for entry in our_pallet.storage().unwrap().entries() {
        let real =
            real_pallet.storage().unwrap().entry_by_name(entry.name()).unwrap_or_else(|| panic!("{}", entry.name()));
        let hashers = |keys: Vec<_>| format!("{keys:?}");
        assert_eq!(
            hashers(entry.keys().map(|key| key.hasher).collect()),
            hashers(real.keys().map(|key| key.hasher).collect()),
            "{}",
            entry.name()
        );
        assert_eq!(entry.default_value().is_some(), real.default_value().is_some(), "{}", entry.name());
    }
    for (ours, real) in [
        (our_pallet.call_variants().unwrap(), real_pallet.call_variants().unwrap()),
        (our_pallet.event_variants().unwrap(), real_pallet.event_variants().unwrap()),
        (our_pallet.error_variants().unwrap(), real_pallet.error_variants().unwrap()),
    ] {
        let shape = |variant: &Variant| {
            let fields: Vec<_> = variant.fields.iter().map(|field| field.name.clone()).collect();
            (variant.name.clone(), variant.index, fields)
        };
        let real: Vec<_> = real.iter().map(shape).collect();
        for variant in ours.iter().map(shape).filter(|(name, ..)| !NEWER.contains(&name.as_str())) {
            assert!(real.contains(&variant), "{variant:?}");
        }
    }
}

/// The newer runtimes' only: spec 393 has neither.
const NEWER: [&str; 2] = ["register_limit", "RegistrationPriceLimitExceeded"];

/// Name, arguments and result of every runtime interface of ours that upstream has, down to the names of fields.
#[test]
fn the_runtime_interfaces_are_a_part_of_the_real_metadata() {
    let Some(real) = real_metadata() else { return };
    let dir = tempfile::tempdir().unwrap();
    let ours = Metadata::decode_from(&open(&dir).read(|| Runtime::metadata_at_version(15)).unwrap()).unwrap();
    for name in ["NeuronInfoRuntimeApi", "SubnetInfoRuntimeApi", "AccountNonceApi"] {
        let (our_api, real_api) =
            (ours.runtime_api_trait_by_name(name).unwrap(), real.runtime_api_trait_by_name(name).unwrap());
        for method in our_api.methods() {
            let real_method = real_api.method_by_name(method.name()).unwrap_or_else(|| panic!("{}", method.name()));
            let inputs = |method: &RuntimeApiMethodMetadata<'_>| -> Vec<String> {
                method.inputs().map(|input| input.name.to_string()).collect()
            };
            assert_eq!(inputs(&method), inputs(&real_method), "{}", method.name());
            let (shown, expected) = (shape(&ours, method.output_ty(), 4), shape(&real, real_method.output_ty(), 4));
            assert_eq!(shown, expected, "{name}.{}", method.name());
        }
    }
}

/// A type as text: fields by name, down to a depth. A newtype around a number is that number, as on the wire.
fn shape(metadata: &Metadata, id: u32, depth: u8) -> String {
    let inner = |id: u32| shape(metadata, id, depth - 1);
    if depth == 0 {
        return String::new();
    }
    match &metadata.types().resolve(id).unwrap().type_def {
        TypeDef::Composite(composite) if composite.fields.len() == 1 && composite.fields[0].name.is_none() => {
            shape(metadata, composite.fields[0].ty.id, depth)
        }
        TypeDef::Composite(composite) => {
            let fields = composite.fields.iter().map(|f| format!("{:?}: {}", f.name.as_deref(), inner(f.ty.id)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        TypeDef::Variant(variants) => {
            let fields = |v: &Variant| v.fields.iter().map(|f| inner(f.ty.id)).collect::<Vec<_>>().join(", ");
            variants.variants.iter().map(|v| format!("{}({})", v.name, fields(v))).collect::<Vec<_>>().join("|")
        }
        TypeDef::Sequence(items) => format!("[{}]", inner(items.type_param.id)),
        TypeDef::Array(items) => format!("[{}; {}]", inner(items.type_param.id), items.len),
        TypeDef::Tuple(items) => {
            format!("({})", items.fields.iter().map(|field| inner(field.id)).collect::<Vec<_>>().join(", "))
        }
        TypeDef::Compact(compact) => format!("compact {}", inner(compact.type_param.id)),
        other => format!("{other:?}"),
    }
}
