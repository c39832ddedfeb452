//! What changes the chain. Every effect reads first, does nothing when the chain already holds the wanted state, waits for
//! finalisation, and reads back.

use std::net::{IpAddr, Ipv4Addr};

use subxt_signer::sr25519::dev;

use super::calls::{self, AXON_PROTOCOL, BITTENSOR_VERSION};
use super::submit::{name, pool_error, refused};
use super::{AxonInfo, Client, Submitted};
use crate::{ChainError, CommitmentPayload, KeyPair, Wallet, parse_ss58};

/// What became of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The chain held the same bytes already: nothing was sent, and the commitment kept its block.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The block the commitment counts from.
    pub block_number: u64,
    /// The bytes read back from the chain.
    pub read_back: Vec<u8>,
}

/// What became of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOutcome {
    /// The chain held the same entry already: nothing was sent.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The entry the chain holds.
    pub axon: AxonInfo,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterOutcome {
    /// The hotkey was registered already: nothing was sent.
    pub already_there: bool,
    /// The extrinsic, when one was sent.
    pub submitted: Option<Submitted>,
    /// The hotkey's uid.
    pub uid: u16,
}

impl Client {
    /// Commits the payload with the wallet's hotkey. Committing again would move the commitment to a later block, which loses
    /// against an equal model of another miner, so equal bytes are left alone.
    ///
    /// # Errors
    /// [`ChainError::Refused`] (`AccountNotAllowedCommit` without a transaction when the hotkey is not registered),
    /// [`ChainError::ReadBack`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn commit(
        &self,
        netuid: u16,
        wallet: &Wallet,
        payload: &CommitmentPayload,
    ) -> Result<CommitOutcome, ChainError> {
        let (hotkey, wanted) = (wallet.hotkey(), payload.as_bytes());
        let before = self.commitment(netuid, &hotkey.ss58()).await?.filter(|found| found.payload == wanted);
        if let Some(found) = before {
            let (block_number, read_back) = (found.block.into(), found.payload);
            return Ok(CommitOutcome { already_there: true, submitted: None, block_number, read_back });
        }
        let call = calls::set_commitment(netuid, wanted);
        if !self.is_registered(netuid, &hotkey.ss58()).await? {
            return Err(refused(&call, "Commitments.AccountNotAllowedCommit".to_owned()));
        }
        let (submitted, at) = self.submit(&call, hotkey).await?;
        let found = self.commitment_at(&at, netuid, hotkey.public()).await?;
        match found {
            Some(found) if found.payload == wanted => Ok(CommitOutcome {
                already_there: false,
                block_number: found.block.into(),
                read_back: found.payload,
                submitted: Some(submitted),
            }),
            found => Err(ChainError::ReadBack {
                call: name(&call),
                block: submitted.block_number,
                expected: payload.as_str().to_owned(),
                found: found.map_or("nothing".to_owned(), |f| String::from_utf8_lossy(&f.payload).into_owned()),
            }),
        }
    }

    /// Announces the axon, unless the chain's entry says the same already.
    ///
    /// # Errors
    /// [`ChainError::Refused`]; addresses and ports the chain or its validators would not take are refused before anything is
    /// sent. [`ChainError::ReadBack`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn serve_axon(
        &self,
        netuid: u16,
        wallet: &Wallet,
        ip: IpAddr,
        port: u16,
    ) -> Result<ServeOutcome, ChainError> {
        let (call, hotkey) = (calls::serve_axon(netuid, ip, port), wallet.hotkey());
        if let Some(number) = unservable(ip, port) {
            let error = pool_error(1010, "Invalid Transaction", Some(&format!("Custom error: {number}")));
            return Err(refused(&call, error));
        }
        let wanted = |axon: &AxonInfo| {
            let same_place = axon.ip == ip && axon.port == port;
            same_place && axon.version == BITTENSOR_VERSION && axon.protocol == AXON_PROTOCOL
        };
        if let Some(axon) = self.axon(netuid, &hotkey.ss58()).await?.filter(wanted) {
            return Ok(ServeOutcome { already_there: true, submitted: None, axon });
        }
        let (submitted, at) = self.submit(&call, hotkey).await?;
        match self.axon_at(&at, netuid, hotkey.public()).await? {
            Some(axon) if wanted(&axon) => Ok(ServeOutcome { already_there: false, submitted: Some(submitted), axon }),
            found => Err(ChainError::ReadBack {
                call: name(&call),
                block: submitted.block_number,
                expected: format!("{ip}:{port}"),
                found: found.map_or("nothing".to_owned(), |axon| format!("{}:{}", axon.ip, axon.port)),
            }),
        }
    }

    /// Registers a hotkey; the coldkey signs and pays [`Client::burn`].
    ///
    /// # Errors
    /// [`ChainError::Address`], [`ChainError::Refused`], [`ChainError::ReadBack`], [`ChainError::Rpc`], [`ChainError::Timeout`].
    pub async fn burned_register(
        &self,
        netuid: u16,
        coldkey: &KeyPair,
        hotkey: &str,
    ) -> Result<RegisterOutcome, ChainError> {
        if let Some(uid) = self.uid(netuid, hotkey).await? {
            return Ok(RegisterOutcome { already_there: true, submitted: None, uid });
        }
        let account = parse_ss58(hotkey)?;
        let call = calls::burned_register(netuid, &account);
        let (submitted, at) = self.submit(&call, coldkey).await?;
        match self.fetch(&at, "SubtensorModule", "Uids", (netuid, account)).await? {
            Some(uid) => Ok(RegisterOutcome { already_there: false, submitted: Some(submitted), uid }),
            None => Err(ChainError::ReadBack {
                call: name(&call),
                block: submitted.block_number,
                expected: format!("a uid for {hotkey}"),
                found: "none".to_owned(),
            }),
        }
    }

    /// Sends `rao` from the development account Alice, on the local chain only.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`] anywhere else; else as [`Client::burned_register`].
    pub async fn fund_from_alice(&self, destination: &str, rao: u64) -> Result<Submitted, ChainError> {
        self.require_local().await?;
        let call = calls::transfer(&parse_ss58(destination)?, rao);
        self.submit(&call, &dev::alice()).await.map(|(submitted, _)| submitted)
    }
}

/// subtensor's number for an address or port it takes from no axon. `0.0.0.0` it would take, but validators skip it.
fn unservable(ip: IpAddr, port: u16) -> Option<u8> {
    if ip.is_loopback() || ip.is_unspecified() || ip == Ipv4Addr::BROADCAST {
        return Some(11);
    }
    (port == 0).then_some(13)
}
