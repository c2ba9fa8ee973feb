//! The patterns of white lists in plain_acl.yml (spec: config.md §3.2).
//!
//! An address; several with commas between them, or for the last part in braces; `*` or a range for a part, where further
//! parts do not matter.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Addresses that one pattern may list.
const ADDRESSES_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhiteAddress {
    Nobody,
    Everybody,
    These(Vec<IpAddr>),
    /// The first parts of the address, and a range for the next one.
    Range {
        v6: bool,
        head: Vec<u16>,
        next: RangeInclusive<u16>,
    },
}

/// A pattern that is none, in the words of the original.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Netaddress examine Exception netaddress is {0}")]
pub struct WhiteAddressError(String);

impl WhiteAddress {
    pub(crate) fn parse(pattern: &str) -> Result<WhiteAddress, WhiteAddressError> {
        let wrong = || WhiteAddressError(pattern.to_owned());
        let pattern = pattern.trim();
        match pattern {
            "" => return Ok(WhiteAddress::Nobody),
            "*" | "*.*.*.*" | "*:*:*:*:*:*:*:*" => return Ok(WhiteAddress::Everybody),
            _ => {}
        }
        if let Some((head, last_parts)) = pattern.strip_suffix('}').and_then(|rest| rest.split_once('{')) {
            let listed = last_parts.split(',').filter(|part| !part.is_empty());
            return these(listed.map(|part| format!("{head}{part}"))).ok_or_else(wrong);
        }
        if pattern.contains(',') {
            let listed = pattern.split(',').filter(|part| !part.is_empty());
            return these(listed.map(str::to_owned)).ok_or_else(wrong);
        }
        if !pattern.contains(['*', '-']) {
            return these([pattern.to_owned()].into_iter()).ok_or_else(wrong);
        }
        match pattern.contains(':') {
            true => v6_range(pattern),
            false => v4_range(pattern),
        }
        .ok_or_else(wrong)
    }

    pub(crate) fn matches(&self, ip: IpAddr) -> bool {
        match self {
            WhiteAddress::Nobody => false,
            WhiteAddress::Everybody => true,
            WhiteAddress::These(addresses) => addresses.contains(&ip),
            WhiteAddress::Range { v6, head, next } => {
                let parts = parts_of(ip);
                *v6 == ip.is_ipv6() && parts.starts_with(head) && next.contains(&parts[head.len()])
            }
        }
    }
}

fn these(addresses: impl Iterator<Item = String>) -> Option<WhiteAddress> {
    let parsed = addresses
        .take(ADDRESSES_MAX + 1)
        .map(|address| address.trim().parse().ok());
    let parsed: Vec<IpAddr> = parsed.collect::<Option<_>>()?;
    (!parsed.is_empty() && parsed.len() <= ADDRESSES_MAX).then_some(WhiteAddress::These(parsed))
}

fn v4_range(pattern: &str) -> Option<WhiteAddress> {
    let parts: Vec<_> = pattern.split('.').map(str::trim).collect();
    let at = parts.iter().position(|part| part.contains(['*', '-']))?;
    if parts.len() != 4 || at == 0 {
        return None;
    }
    let octet = |part: &&str| part.parse::<u8>().ok().map(u16::from);
    Some(WhiteAddress::Range {
        v6: false,
        head: parts[..at].iter().map(octet).collect::<Option<_>>()?,
        next: range(parts[at], 10, 0xFF)?,
    })
}

/// The last part is a range or `*`; if it is `*`, the one before it may be a range.
fn v6_range(pattern: &str) -> Option<WhiteAddress> {
    let (before, last) = pattern.rsplit_once(':')?;
    let (head, next, parts) = match (last, before.rsplit_once(':')) {
        ("*", Some((head, range))) if range.contains('-') => (head, range, 6),
        _ => (before, last, 7),
    };
    if head.contains(['*', '-']) {
        return None;
    }
    let head = match head.split_once("::") {
        None => groups(head)?,
        Some((left, right)) => {
            let (left, right) = (groups(left)?, groups(right)?);
            let zeros = usize::checked_sub(parts, left.len() + right.len())?;
            [left, vec![0; zeros], right].concat()
        }
    };
    (head.len() < 8).then_some(())?;
    Some(WhiteAddress::Range {
        v6: true,
        head,
        next: range(next, 16, 0xFFFF)?,
    })
}

fn groups(text: &str) -> Option<Vec<u16>> {
    let groups = text.split(':').filter(|group| !group.is_empty());
    groups.map(|group| u16::from_str_radix(group, 16).ok()).collect()
}

fn range(part: &str, radix: u32, max: u16) -> Option<RangeInclusive<u16>> {
    if part == "*" {
        return Some(0..=max);
    }
    let (first, last) = part.split_once('-')?;
    let number = |text: &str| u16::from_str_radix(text.trim(), radix).ok();
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last <= max).then_some(first..=last)
}

fn parts_of(ip: IpAddr) -> Vec<u16> {
    match ip {
        IpAddr::V4(v4) => v4.octets().map(u16::from).to_vec(),
        IpAddr::V6(v6) => Ipv6Addr::segments(&v6).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, inside, outside) in [
            ("10.10.103.7", "10.10.103.7", "10.10.103.8"),
            ("10.10.103.*", "10.10.103.255", "10.10.104.1"),
            ("192.168.*.*", "192.168.0.1", "192.169.0.1"),
            ("192.168.*.1", "192.168.7.9", "192.169.7.1"),
            ("192.168.100-200.*", "192.168.100.7", "192.168.99.7"),
            ("192.168.1.5-9", "192.168.1.9", "192.168.1.10"),
            ("1.2.3.4,5.6.7.8", "5.6.7.8", "5.6.7.9"),
            ("1.2.3.{4,6}", "1.2.3.6", "1.2.3.5"),
            ("1050::0005:0600:300c:326b", "1050:0:0:0:5:600:300c:326b", "1050::1"),
            ("1050::0005:0600:300c:{1,2}", "1050::5:600:300c:2", "1050::5:600:300c:3"),
            ("fe80:1:2:3:4:5:6:*", "fe80:1:2:3:4:5:6:ffff", "fe80:1:2:3:4:5:7:1"),
            ("2::ac5:78:1-200:*", "2::ac5:78:200:7", "2::ac5:78:201:7"),
            ("2::ac5:78:1-200", "2::ac5:78:1", "2::ac5:78:0"),
            ("*", "::1", "nobody"),
            ("*.*.*.*", "1.2.3.4", "nobody"),
            ("", "nobody", "1.2.3.4"),
        ] {
            let parsed = WhiteAddress::parse(pattern).unwrap();
            let matches = |text: &str| text.parse().map(|ip| parsed.matches(ip));
            assert!(matches(inside).unwrap_or(true), "{pattern} {inside}");
            assert!(!matches(outside).unwrap_or(false), "{pattern} {outside}");
        }
        for wrong in [
            "host",
            "1.2.3",
            "1.2.3.-4",
            "1.2.3.9-5",
            "1.2.3.1-256",
            "*.1.2.3",
            "1.2.3.{}",
            "1.2.3.4,x",
            "::*:1-2",
            "2:*:3",
        ] {
            assert!(WhiteAddress::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[0-9a-f.:*,{}-]{0,40}") {
            let ips = [IpAddr::from([1, 2, 3, 4]), IpAddr::from([0u16, 1, 2, 3, 4, 5, 6, 7])];
            if let Ok(pattern) = WhiteAddress::parse(&text) {
                let _ = ips.map(|ip| pattern.matches(ip));
            }
        }

        #[test]
        fn an_address_matches_itself_only(one: [u8; 4], other: [u8; 4]) {
            let (one, other) = (IpAddr::from(one), IpAddr::from(other));
            let pattern = WhiteAddress::parse(&one.to_string()).unwrap();
            prop_assert_eq!(pattern.matches(other), one == other);
        }
    }
}
