//! Times and numbers as people read them.

use std::io::IsTerminal;

use jiff::Timestamp;

pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Colours for a terminal, none for files and pipes.
pub(crate) struct Style {
    is_coloured: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Style {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style {
            is_coloured: std::io::stdout().is_terminal() && !refused,
        }
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        match self.is_coloured {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// `2026-11-22T03:04:05.678Z`.
pub(crate) fn time(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// `12 s ago`, `in 3 min`.
pub(crate) fn ago(now_ms: i64, ms: i64) -> String {
    match now_ms - ms {
        past if past >= 0 => format!("{} ago", span(past)),
        future => format!("in {}", span(-future)),
    }
}

/// Two digits of a length of time.
pub(crate) fn span(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match UNITS.iter().find(|(unit, _)| ms >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", ms / unit),
        None => format!("{ms} ms"),
    }
}

/// A count of bytes with a unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} B"),
    }
}

/// The upper end of what a size in a broker's runtime information may stand for: `2.1 KiB`.
pub(crate) fn bytes_max(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    let unit = match unit {
        "B" => return (number >= 0.0).then_some(number as u64),
        "KiB" => 1u64 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    // Shown with one digit behind the point.
    (number >= 0.0).then_some(((number + 0.1) * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_readable() {
        assert_eq!(time(1_757_000_005_007), "2025-09-04T15:33:25.007Z");
        assert_eq!(
            [0, 1999, 2000, 150_000, 200_000_000].map(span),
            ["0 ms", "1999 ms", "2 s", "2 min", "2 d"]
        );
        assert_eq!((ago(5000, 1000), ago(1000, 5000)), ("4 s ago".into(), "in 4 s".into()));
        assert_eq!([5, 2048, 3 << 30].map(bytes), ["5 B", "2.0 KiB", "3.0 GiB"]);
        assert_eq!(
            ["0 B", "1.0 KiB", "x", "1 y"].map(bytes_max),
            [Some(0), Some(1126), None, None]
        );
    }
}
