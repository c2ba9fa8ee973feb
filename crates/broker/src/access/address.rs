//! Addresses that policies name: one, or a network in CIDR notation.

use std::fmt;
use std::net::IpAddr;

/// An address or a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// As it was given, for those who ask.
    text: String,
    base: IpAddr,
    /// Of the first address that belongs to it and of the last.
    first: u128,
    last: u128,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (base, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((base, prefix)) => (base, Some(prefix.parse::<u8>().ok()?)),
        };
        let base: IpAddr = base.parse().ok()?;
        let width: u32 = if base.is_ipv4() { 32 } else { 128 };
        let prefix = u32::from(prefix.unwrap_or(width as u8));
        let host = host_mask(width.checked_sub(prefix)?);
        let bits = bits(base);
        Some(Network {
            text: text.to_owned(),
            base,
            first: bits & !host,
            last: bits | host,
        })
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.base.is_ipv4() == ip.is_ipv4() && (self.first..=self.last).contains(&bits(ip))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn host_mask(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |next| next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_their_prefix_says() {
        for (network, inside, outside) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("192.168.1.128/25", "192.168.1.255", "192.168.1.127"),
            ("fe80::/10", "febf::1", "fec0::"),
            ("::/0", "ffff::1", "1.2.3.4"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(parsed.to_string(), network);
        }
        for wrong in [
            "",
            "10.0.0",
            "10.0.0.1/33",
            "::/129",
            "10.0.0.*",
            "host",
            "1.2.3.4/",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
