//! The calls this crate sends, as dynamic values; the chain's metadata turns them into bytes.

use std::net::IpAddr;

use subxt::dynamic::{Value, tx};
use subxt::tx::DynamicPayload;

/// A call whose arguments are encoded by metadata.
pub(super) type Call = DynamicPayload<Vec<Value>>;

/// What bittensor 9.0.1, the version De-Val pins, announces itself as.
pub(super) const BITTENSOR_VERSION: u32 = 9_000_001;
/// The protocol number bittensor's SDK announces.
pub(super) const AXON_PROTOCOL: u8 = 4;

/// `Commitments.set_commitment` with one raw field; `data` is at most 128 bytes, which [`crate::CommitmentPayload`] ensures.
pub(super) fn set_commitment(netuid: u16, data: &[u8]) -> Call {
    let field = Value::unnamed_variant(format!("Raw{}", data.len()), [Value::from_bytes(data)]);
    let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
    tx("Commitments", "set_commitment", vec![number(netuid), info])
}

/// `SubtensorModule.serve_axon`.
pub(super) fn serve_axon(netuid: u16, ip: IpAddr, port: u16) -> Call {
    let (bits, ip_type) = ip_number(ip);
    let unused = || number(0u8);
    let arguments = vec![
        number(netuid),
        number(BITTENSOR_VERSION),
        number(bits),
        number(port),
        number(ip_type),
        number(AXON_PROTOCOL),
        unused(),
        unused(),
    ];
    tx("SubtensorModule", "serve_axon", arguments)
}

/// `SubtensorModule.burned_register`.
pub(super) fn burned_register(netuid: u16, hotkey: &[u8; 32]) -> Call {
    tx("SubtensorModule", "burned_register", vec![number(netuid), Value::from_bytes(hotkey)])
}

/// `SubtensorModule.register_limit` of newer runtimes; `limit` in rao.
pub(super) fn register_limit(netuid: u16, hotkey: &[u8; 32], limit: u64) -> Call {
    let arguments = vec![number(netuid), Value::from_bytes(hotkey), number(limit)];
    tx("SubtensorModule", "register_limit", arguments)
}

/// `Balances.transfer_keep_alive`, in rao.
pub(super) fn transfer(to: &[u8; 32], rao: u64) -> Call {
    let address = Value::unnamed_variant("Id", [Value::from_bytes(to)]);
    tx("Balances", "transfer_keep_alive", vec![address, number(rao)])
}

/// An address as the chain stores it: its integer and its type, 4 or 6.
pub(super) fn ip_number(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(ip) => (ip.to_bits().into(), 4),
        IpAddr::V6(ip) => (ip.to_bits(), 6),
    }
}

fn number(value: impl Into<u128>) -> Value {
    Value::u128(value.into())
}
