//! The address that validators reach. It is told by the miner or by the kernel; a stranger's server is asked only when named.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::AxonError;

/// An address answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest IPv6 address has 45 characters.
const LONGEST_ANSWER: usize = 256;

/// The address of this machine's network interface of this name (`eth0`): a public one before a private one, IPv4 before IPv6.
///
/// # Errors
/// [`AxonError::ExternalAddress`] when there is no such interface, or none of its addresses leads out of it.
pub fn of_interface(name: &str) -> Result<IpAddr, AxonError> {
    let failed = |reason| AxonError::ExternalAddress { by: format!("the network interface `{name}`"), reason };
    let all: Vec<_> = getifaddrs().map_err(|error| failed(error.to_string()))?.collect();
    let of_this = all.iter().filter(|address| address.interface_name == name);
    let mut found: Vec<IpAddr> = of_this.filter_map(|of_this| address(of_this.address.as_ref()?)).collect();
    found.retain(|address| !address.is_loopback());
    found.sort_by_key(|address| (!is_public(*address), address.is_ipv6()));
    found.first().copied().ok_or_else(|| {
        let names: BTreeSet<_> = all.iter().map(|address| address.interface_name.as_str()).collect();
        failed(format!("it has no address to reach it by; the interfaces are {}", Vec::from_iter(names).join(", ")))
    })
}

/// Whether the address is one of this machine's own, so that what is sent there never leaves it.
pub fn is_own(address: IpAddr) -> bool {
    let own = getifaddrs().into_iter().flatten();
    address.is_loopback() || own.filter_map(|own| self::address(own.address.as_ref()?)).any(|own| own == address)
}

fn address(stored: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = stored.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| stored.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// What the server of `url` answers: the address it was asked from, as plain text.
///
/// # Errors
/// [`AxonError::ExternalAddress`].
pub async fn asked_of(url: &str) -> Result<IpAddr, AxonError> {
    // The address may hold a key; an error names its host only.
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let by = format!("asking `{}`", host.unwrap_or_default());
    let failed = |reason: String| AxonError::ExternalAddress { by: by.clone(), reason };
    let broken = |error: reqwest::Error| failed(error.without_url().to_string());
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(broken)?;
    let mut response = client.get(url).send().await.and_then(|r| r.error_for_status()).map_err(broken)?;
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        answer.extend_from_slice(&chunk);
        if answer.len() > LONGEST_ANSWER {
            return Err(failed(format!("its answer is longer than {LONGEST_ANSWER} bytes, and no address")));
        }
    }
    let text = String::from_utf8_lossy(&answer);
    text.trim().parse().map_err(|_| failed(format!("it answered `{}`, which is no address", text.trim())))
}

/// Whether the whole Internet can reach the address: neither private, shared (carrier-grade NAT), link-local nor loopback.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(v4.is_private() || shared || v4.is_link_local() || v4.is_loopback() || v4.is_unspecified() || a >= 224)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests;
