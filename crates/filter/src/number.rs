//! Numbers in texts, as Java reads them.

/// So many digits are an `i64`, whichever they are.
const DIGITS_FEW: usize = 18;

/// `Integer.valueOf`, `Long.valueOf`: a sign and digits, nothing else.
#[inline]
pub(crate) fn integer<N: TryFrom<i64>>(text: &[u8]) -> Option<N> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > DIGITS_FEW {
        // Rust reads the same, but for the lone sign, which is an error in both.
        let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        return N::try_from(value).ok();
    }
    let mut value = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    N::try_from(if negative { -value } else { value }).ok()
}

/// `Double.valueOf`: blanks around it, a suffix `d` or `f`, `NaN`, `Infinity`, hexadecimal.
pub(crate) fn double(text: &[u8]) -> Option<f64> {
    let (negative, text) = match trim(text) {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let value = match text {
        // Not negated: Java has one NaN.
        b"NaN" => return Some(f64::NAN),
        b"Infinity" => f64::INFINITY,
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        _ => decimal(without_suffix(text))?,
    };
    Some(if negative { -value } else { value })
}

/// Blanks are all characters up to the space.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [0..=b' ', rest @ ..] | [rest @ .., 0..=b' '] = text {
        text = rest;
    }
    text
}

fn without_suffix(text: &[u8]) -> &[u8] {
    match text {
        [rest @ .., b'f' | b'F' | b'd' | b'D'] => rest,
        _ => text,
    }
}

fn decimal(text: &[u8]) -> Option<f64> {
    // Rust reads names of special values and a second sign as well.
    let starts_well = matches!(text, [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..]);
    let text = std::str::from_utf8(text).ok().filter(|_| starts_well)?;
    text.parse().ok()
}

/// `1.8p3`, behind the `0x`: the exponent is required and decimal.
fn hexadecimal(text: &[u8]) -> Option<f64> {
    let text = without_suffix(text);
    let middle = text.iter().position(|byte| matches!(byte, b'p' | b'P'))?;
    let (digits, exponent) = (&text[..middle], &text[middle + 1..]);
    let mut exponent = std::str::from_utf8(exponent).ok().and_then(saturating_exponent)?;
    let mut mantissa: u64 = 0;
    let (mut seen, mut in_fraction) = (false, false);
    for byte in digits {
        let digit = match byte {
            b'.' if !in_fraction => {
                in_fraction = true;
                continue;
            }
            _ => (*byte as char).to_digit(16)?,
        };
        seen = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if in_fraction { 4 } else { 0 };
        } else {
            // Too far right to matter but for rounding.
            mantissa |= u64::from(digit != 0);
            exponent += if in_fraction { 0 } else { 4 };
        }
    }
    seen.then(|| scale(mantissa, exponent))
}

fn saturating_exponent(text: &str) -> Option<i64> {
    const FAR: i64 = 1 << 40;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let far = if text.starts_with('-') { -FAR } else { FAR };
    is_number.then(|| text.parse().map_or(far, |exponent: i64| exponent.clamp(-FAR, FAR)))
}

/// `mantissa · 2^exponent`, rounded once.
fn scale(mantissa: u64, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    // The value is 1.xxx · 2^top. Bits below 2^-1074 or beyond 53 in number are rounded to even.
    let top = exponent + 63 - i64::from(mantissa.leading_zeros());
    if top > 1023 {
        return f64::INFINITY;
    }
    let lowest = (top - 52).max(-1074);
    let dropped = lowest - exponent;
    let kept = match dropped {
        ..=0 => mantissa << -dropped,
        1..=64 => {
            let dropped = dropped as u32;
            let kept = mantissa.checked_shr(dropped).unwrap_or(0);
            let rest = mantissa & (u64::MAX >> (64 - dropped));
            let half = 1u64 << (dropped - 1);
            kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
        }
        _ => 0,
    };
    // `kept` has at most 54 bits: exact. Two steps, because 2^-1074 alone is the smallest there is.
    let half = lowest / 2;
    kept as f64 * 2f64.powi(half as i32) * 2f64.powi((lowest - half) as i32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_have_a_sign_and_digits_only() {
        for (text, expected) in [
            ("5", Some(5)),
            ("+5", Some(5)),
            ("-0012", Some(-12)),
            ("2147483647", Some(i32::MAX)),
        ] {
            assert_eq!(integer::<i32>(text.as_bytes()), expected);
        }
        for text in [" 5", "5 ", "-", "", "5l", "2147483648", "5.0"] {
            assert_eq!(integer::<i32>(text.as_bytes()), None, "{text}");
        }
        assert_eq!(integer::<i64>(b"-9223372036854775808"), Some(i64::MIN));
    }

    proptest! {
        #[test]
        fn integers_are_those_of_rust(text in "[-+]{0,2}[0-9]{0,22}[ a-z]?") {
            prop_assert_eq!(integer::<i32>(text.as_bytes()), text.parse().ok());
            prop_assert_eq!(integer::<i64>(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn any_integer_is_read(number: i64, small: i32) {
            prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
            prop_assert_eq!(integer(small.to_string().as_bytes()), Some(small));
        }
    }

    #[test]
    fn doubles_are_read_as_java_does() {
        for (text, expected) in [
            (" 1.5 ", 1.5),
            ("\t5d\n", 5.0),
            ("5.F", 5.0),
            (".5e1", 5.0),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
            ("1e-400", 0.0),
            ("0x1p3", 8.0),
            ("0x.8P+1f", 1.0),
            ("0X1.fffffffffffffp1023", f64::MAX),
            ("0x1.fffffffffffff8p1023", f64::INFINITY),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000000001p0", 1.0 + f64::EPSILON),
        ] {
            assert_eq!(double(text.as_bytes()), Some(expected), "{text}");
        }
        assert!(double(b"-NaN").unwrap().is_nan() && double(b"-0").unwrap().is_sign_negative());
        for text in [
            "",
            "d",
            ".",
            "1e",
            "e5",
            "inf",
            "nan",
            "--5",
            "0x1",
            "0xp1",
            "1 2",
            "+",
            "0x1.p",
            "Infinityf",
            "1e5ff",
        ] {
            assert_eq!(double(text.as_bytes()), None, "{text}");
        }
    }
}
