//! Message ids (spec: protocol.md §6.5): the one that says where a message is stored, and the one its producer gives it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};

use thiserror::Error;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The offset message id: store host and physical offset, as 32 (IPv4) or 56 (IPv6) upper-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMessageId {
    pub store_host: SocketAddr,
    pub physical_offset: i64,
}

/// Text that is not a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a message id is 32 or 56 hex digits")]
pub struct MessageIdError;

impl OffsetMessageId {
    /// The id as ASCII digits in a buffer on the stack, and their count.
    pub fn encode(&self) -> ([u8; 56], usize) {
        let mut digits = [0; 56];
        let mut at = 0;
        match self.store_host.ip().to_canonical() {
            IpAddr::V4(ip) => push_hex(&mut digits, &mut at, &ip.octets()),
            IpAddr::V6(ip) => push_hex(&mut digits, &mut at, &ip.octets()),
        }
        push_hex(&mut digits, &mut at, &u32::from(self.store_host.port()).to_be_bytes());
        push_hex(&mut digits, &mut at, &self.physical_offset.to_be_bytes());
        (digits, at)
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, count) = self.encode();
        f.write_str(std::str::from_utf8(&digits[..count]).expect("hex digits are ascii"))
    }
}

impl FromStr for OffsetMessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<OffsetMessageId, MessageIdError> {
        let (ip, rest) = decode(text)?;
        let (port, offset) = rest.split_first_chunk::<4>().ok_or(MessageIdError)?;
        let offset = offset.first_chunk::<8>().ok_or(MessageIdError)?;
        Ok(OffsetMessageId {
            store_host: SocketAddr::new(ip, u32::from_be_bytes(*port) as u16),
            physical_offset: i64::from_be_bytes(*offset),
        })
    }
}

/// Gives out unique ids: address, process, milliseconds in the month and a counter. One per process is enough.
#[derive(Debug)]
pub struct UniqueIds {
    ip: IpAddr,
    pid: u16,
    discriminator: u32,
    utc_offset_ms: i64,
    counter: AtomicU16,
}

impl UniqueIds {
    /// `discriminator` tells generators of one process apart. `utc_offset_ms` is what local time is ahead of UTC: the
    /// time in an id counts from the start of the local month, and tools read it back that way.
    pub fn new(ip: IpAddr, pid: u32, discriminator: u32, utc_offset_ms: i64) -> UniqueIds {
        UniqueIds {
            ip: ip.to_canonical(),
            pid: pid as u16,
            discriminator,
            utc_offset_ms,
            counter: AtomicU16::new(0),
        }
    }

    /// The next id, at `now_ms` since the epoch.
    pub fn next(&self, now_ms: i64) -> String {
        let (digits, count) = self.next_digits(now_ms);
        std::str::from_utf8(&digits[..count])
            .expect("hex digits are ascii")
            .to_owned()
    }

    /// The next id as ASCII digits in a buffer on the stack, and their count.
    pub fn next_digits(&self, now_ms: i64) -> ([u8; 56], usize) {
        let in_month = now_ms - month_start_ms(now_ms, self.utc_offset_ms);
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut digits = [0; 56];
        let mut at = 0;
        match self.ip {
            IpAddr::V4(ip) => push_hex(&mut digits, &mut at, &ip.octets()),
            IpAddr::V6(ip) => push_hex(&mut digits, &mut at, &ip.octets()),
        }
        push_hex(&mut digits, &mut at, &self.pid.to_be_bytes());
        push_hex(&mut digits, &mut at, &self.discriminator.to_be_bytes());
        push_hex(&mut digits, &mut at, &(in_month as i32).to_be_bytes());
        push_hex(&mut digits, &mut at, &counter.to_be_bytes());
        (digits, at)
    }
}

/// Where a unique id was made.
pub fn unique_id_ip(id: &str) -> Result<IpAddr, MessageIdError> {
    Ok(decode(id)?.0)
}

/// About when a unique id was made, seen from `now_ms`. The id holds the time within a month only.
pub fn unique_id_timestamp_ms(id: &str, now_ms: i64, utc_offset_ms: i64) -> Result<i64, MessageIdError> {
    let (_, rest) = decode(id)?;
    let in_month = rest
        .get(6..)
        .and_then(|time| time.first_chunk::<4>())
        .ok_or(MessageIdError)?;
    let in_month = i64::from(i32::from_be_bytes(*in_month));
    let month = month_start_ms(now_ms, utc_offset_ms);
    let time = month + in_month;
    if time < now_ms {
        return Ok(time);
    }
    Ok(month_start_ms(month - 1, utc_offset_ms) + in_month)
}

/// The start of the local month that `now_ms` lies in.
fn month_start_ms(now_ms: i64, utc_offset_ms: i64) -> i64 {
    let local_day = (now_ms + utc_offset_ms).div_euclid(DAY_MS);
    (local_day - days_into_month(local_day)) * DAY_MS - utc_offset_ms
}

/// Days since the first of the month, of a day counted from 1970-01-01. Months are counted from March in years that
/// begin there, so that the leap day comes last: `(153·m + 2) / 5` days precede month `m` of such a year.
fn days_into_month(day: i64) -> i64 {
    const DAYS_PER_ERA: i64 = 146_097;
    let of_era = (day + 719_468).rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    of_year - (153 * month + 2) / 5
}

fn push_hex(digits: &mut [u8; 56], at: &mut usize, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        digits[*at] = HEX[usize::from(byte >> 4)];
        digits[*at + 1] = HEX[usize::from(byte & 15)];
        *at += 2;
    }
}

/// The address at the start of an id of either kind, and the 12 bytes after it.
fn decode(text: &str) -> Result<(IpAddr, [u8; 12]), MessageIdError> {
    let mut bytes = [0; 28];
    let digits = text.as_bytes();
    if digits.len() != 32 && digits.len() != 56 {
        return Err(MessageIdError);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    let bytes = &bytes[..digits.len() / 2];
    let (ip, rest) = bytes.split_at(bytes.len() - 12);
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).map_err(|_| MessageIdError)?),
    };
    Ok((ip, rest.try_into().map_err(|_| MessageIdError)?))
}

fn hex_digit(digit: u8) -> Result<u8, MessageIdError> {
    char::from(digit)
        .to_digit(16)
        .map(|value| value as u8)
        .ok_or(MessageIdError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_ids_survive_their_text() {
        for (host, text) in [
            ("127.0.0.1:10911", "7F00000100002A9F0000000000000FA0"),
            (
                "[::1]:10911",
                "0000000000000000000000000000000100002A9F0000000000000FA0",
            ),
        ] {
            let id = OffsetMessageId {
                store_host: host.parse().unwrap(),
                physical_offset: 4000,
            };
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_lowercase().parse(), Ok(id));
        }
        for bad in [
            "",
            "7F",
            "7F00000100002A9F0000000000000FA",
            "xF00000100002A9F0000000000000FA0",
            "é7F00000100002A9F0000000000000FA",
        ] {
            assert_eq!(bad.parse::<OffsetMessageId>(), Err(MessageIdError), "{bad}");
        }
    }

    #[test]
    fn unique_ids_differ_and_tell_their_time() {
        let ids = UniqueIds::new("192.0.2.7".parse().unwrap(), 70_000, 0x66cc_ee98, 3_600_000);
        // 2024-03-01T00:30 local time, one hour ahead of UTC: half an hour into the month.
        let now = 1_709_249_400_000;
        let first = ids.next(now);
        assert_eq!(
            first,
            format!("C0000207{:04X}66CCEE98{:08X}0000", 70_000 - 65_536, 1_800_000)
        );
        assert_ne!(first, ids.next(now));
        for later in [1, 86_400_000, 28 * 86_400_000] {
            assert_eq!(unique_id_timestamp_ms(&first, now + later, 3_600_000), Ok(now));
        }
    }

    #[test]
    fn months_start_where_the_calendar_says() {
        for (now, start) in [
            (0, 0),
            (1_709_164_800_000, 1_706_745_600_000), // 2024-02-29 → 2024-02-01
            (1_735_603_200_000, 1_733_011_200_000), // 2024-12-31 → 2024-12-01
            (1_767_225_600_000, 1_767_225_600_000), // 2026-01-01
        ] {
            assert_eq!(month_start_ms(now, 0), start);
        }
    }
}
