//! Delay levels: the fixed delays a message may ask for by number (spec: protocol.md §6.7).

use thiserror::Error;

/// RocketMQ's default levels, 1 to 18.
pub const DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

/// More levels than anybody needs; each is a queue of the schedule topic.
const LEVELS_MAX: usize = 256;

/// Text that is no list of delays.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is no delay such as 10s, 5m, 2h or 1d")]
pub struct DelayLevelError(String);

/// The delays in milliseconds; level 1 comes first.
pub fn parse(text: &str) -> Result<Vec<u64>, DelayLevelError> {
    let delays: Vec<u64> = text.split_whitespace().map(parse_one).collect::<Result<_, _>>()?;
    match delays.len() {
        1..=LEVELS_MAX => Ok(delays),
        _ => Err(DelayLevelError(text.to_owned())),
    }
}

fn parse_one(text: &str) -> Result<u64, DelayLevelError> {
    let bad = || DelayLevelError(text.to_owned());
    let unit_at = text
        .len()
        .checked_sub(1)
        .filter(|at| text.is_char_boundary(*at))
        .ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(unit_ms).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_eighteen() {
        let levels = parse(DEFAULT).unwrap();
        assert_eq!(
            (levels.len(), levels[0], levels[2], levels[17]),
            (18, 1000, 10_000, 7_200_000)
        );
    }

    #[test]
    fn bad_delays_are_named() {
        for bad in ["1x", "s", "1é", "-1s", "99999999999999999999d", "1s five"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("").is_err());
        assert_eq!(parse("1s five"), Err(DelayLevelError("five".into())));
    }
}
