//! What a commitment holds: subtensor's `pallets/commitments/src/types.rs`, byte for byte.
#![expect(unreachable_pub, reason = "the types appear in the interfaces that the pallet macros make `pub`")]

use frame_support::pallet_prelude::*;
use parity_scale_codec::{EncodeLike, Error, Input, Output};
use scale_info::build::{Fields, Variants};
use scale_info::{Path, Type};

/// Fields a commitment may have; upstream's `MaxFields` since May 2025.
pub type MaxFields = ConstU32<3>;

/// One field. The encoding is by hand: `Raw0`…`Raw128` are 129 variants without a length prefix.
#[derive(Clone, Debug, PartialEq, Eq, DecodeWithMemTracking)]
pub enum Data {
    /// Nothing; variant 0.
    None,
    /// Up to 128 bytes; variant `1 + length`.
    Raw(BoundedVec<u8, ConstU32<128>>),
    /// A hash, named by its variant: 130 BlakeTwo256, 131 Sha256, 132 Keccak256, 133 ShaThree256.
    Digest(u8, [u8; 32]),
    /// A timelocked blob; variant 134. The local chain keeps it and never reveals it.
    TimelockEncrypted {
        /// The ciphertext.
        encrypted: BoundedVec<u8, ConstU32<1024>>,
        /// The drand round that opens it.
        reveal_round: u64,
    },
    /// Asks for a reset of the subnet's bonds; variant 135.
    ResetBondsFlag,
    /// Up to 512 bytes with a length prefix; variant 136.
    BigRaw(BoundedVec<u8, ConstU32<512>>),
}

impl Data {
    /// Bytes that count against the space quota.
    pub fn space(&self) -> u64 {
        match self {
            Self::None | Self::ResetBondsFlag => 0,
            Self::Raw(bytes) => bytes.len() as u64,
            Self::Digest(..) => 32,
            Self::TimelockEncrypted { encrypted, .. } => encrypted.len() as u64,
            Self::BigRaw(bytes) => bytes.len() as u64,
        }
    }
}

impl Encode for Data {
    fn encode_to<T: Output + ?Sized>(&self, out: &mut T) {
        match self {
            Self::None => out.push_byte(0),
            Self::Raw(bytes) => {
                out.push_byte(bytes.len() as u8 + 1);
                out.write(bytes);
            }
            Self::Digest(variant, digest) => {
                out.push_byte(*variant);
                out.write(digest);
            }
            Self::TimelockEncrypted { encrypted, reveal_round } => {
                out.push_byte(134);
                (encrypted, reveal_round).encode_to(out);
            }
            Self::ResetBondsFlag => out.push_byte(135),
            Self::BigRaw(bytes) => {
                out.push_byte(136);
                bytes.encode_to(out);
            }
        }
    }
}

impl EncodeLike for Data {}

impl Decode for Data {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        Ok(match input.read_byte()? {
            0 => Self::None,
            variant @ 1..=129 => {
                let mut bytes = vec![0; usize::from(variant) - 1];
                input.read(&mut bytes)?;
                Self::Raw(bytes.try_into().map_err(|_| "raw data over 128 bytes")?)
            }
            variant @ 130..=133 => Self::Digest(variant, Decode::decode(input)?),
            134 => {
                let (encrypted, reveal_round) = Decode::decode(input)?;
                Self::TimelockEncrypted { encrypted, reveal_round }
            }
            135 => Self::ResetBondsFlag,
            136 => Self::BigRaw(Decode::decode(input)?),
            _ => return Err("unknown variant of Data".into()),
        })
    }
}

macro_rules! raw_variants {
    ($variants:expr, $($len:literal)*) => {
        $variants$(.variant(concat!("Raw", stringify!($len)), |v| {
            v.index($len + 1).fields(Fields::unnamed().field(|f| f.ty::<[u8; $len]>()))
        }))*
    };
}

macro_rules! digest_variants {
    ($variants:expr, $($name:literal = $index:literal)*) => {
        $variants$(.variant($name, |v| {
            v.index($index).fields(Fields::unnamed().field(|f| f.ty::<[u8; 32]>()))
        }))*
    };
}

impl TypeInfo for Data {
    type Identity = Self;

    fn type_info() -> Type {
        let variants = Variants::new().variant("None", |v| v.index(0));
        let variants = raw_variants!(variants,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41
            42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80
            81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114
            115 116 117 118 119 120 121 122 123 124 125 126 127 128);
        let variants =
            digest_variants!(variants, "BlakeTwo256" = 130 "Sha256" = 131 "Keccak256" = 132 "ShaThree256" = 133)
                .variant("TimelockEncrypted", |v| {
                    v.index(134).fields(
                        Fields::named()
                            .field(|f| f.name("encrypted").ty::<BoundedVec<u8, ConstU32<1024>>>())
                            .field(|f| f.name("reveal_round").ty::<u64>()),
                    )
                })
                .variant("ResetBondsFlag", |v| v.index(135))
                .variant("BigRaw", |v| {
                    v.index(136).fields(Fields::unnamed().field(|f| f.ty::<BoundedVec<u8, ConstU32<512>>>()))
                });
        Type::builder().path(Path::new("Data", module_path!())).variant(variants)
    }
}

/// What a miner sends: up to three fields, of which De-Val reads the first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct CommitmentInfo {
    /// The fields.
    pub fields: BoundedVec<Data, MaxFields>,
}

/// What the chain keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Registration {
    /// Rao held; always 0, as on the real chain.
    pub deposit: u64,
    /// Block of the commitment; the earlier one wins among equal models.
    pub block: u32,
    /// The commitment.
    pub info: CommitmentInfo,
}

/// Space used in the current subnet epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct UsageTracker {
    /// The epoch counted.
    pub last_epoch: u64,
    /// Bytes used in it; every commitment costs at least 100.
    pub used_space: u64,
}
